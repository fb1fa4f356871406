//! What a client asks for, and what the funnel is asked for in turn.

use super::messages::{Content, Message, messages};
use crate::{
    failure::Failure,
    known::Known,
    wish::{Unmet, Wish, beyond, named},
};
use contract::model::Sampling;
use inference::{ChatRole, Format, Options, Tool, ToolChoice};
use serde::Deserialize;
use serde_json::Value;
use services::Completion;
use utoipa::ToSchema;

/// The body, of the call that counts too.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MessagesRequest {
    model: String,
    messages: Vec<Message>,
    /// Longest answer, in tokens. Needed for an answer, not for counting.
    max_tokens: Option<u32>,
    #[schema(schema_with = super::messages::content)]
    system: Option<Content>,
    pub stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    stop_sequences: Option<Vec<String>>,
    tools: Option<Vec<ToolEntry>>,
    tool_choice: Option<Choice>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    #[schema(schema_with = crate::wish::schema)]
    service_tier: Option<Wish>,
    // Known, and without a meaning here.
    #[serde(rename = "metadata")]
    #[schema(schema_with = crate::known::schema)]
    _metadata: Option<Known>,
    #[serde(rename = "cache_control")]
    #[schema(schema_with = crate::known::schema)]
    _cache_control: Option<Known>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicTool)]
struct ToolEntry {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<Value>,
    /// Keep the tools and the system's text computed for as long as there is room.
    #[schema(value_type = Option<Object>)]
    cache_control: Option<Known>,
    #[serde(rename = "strict")]
    #[schema(schema_with = crate::known::schema)]
    _strict: Option<Known>,
    /// Arguments come as a whole.
    #[serde(rename = "eager_input_streaming")]
    #[schema(schema_with = crate::known::schema)]
    _eager: Option<Known>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicToolChoice)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicThinking)]
struct Thinking {
    #[serde(rename = "type")]
    kind: ThinkingKind,
    display: Option<String>,
    /// Thoughts end where `max_tokens` do.
    #[serde(rename = "budget_tokens")]
    #[schema(schema_with = crate::known::schema)]
    _budget_tokens: Option<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnthropicThinkingKind)]
enum ThinkingKind {
    Enabled,
    Disabled,
    Adaptive,
    BetweenTools,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicOutputConfig)]
struct OutputConfig {
    format: Option<OutputFormat>,
    #[schema(schema_with = crate::wish::schema)]
    effort: Option<Wish>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicOutputFormat)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Value,
}

impl Unmet for MessagesRequest {
    fn unmet(&self) -> Vec<&'static str> {
        let effort = self.output_config.as_ref().and_then(|config| config.effort.as_ref());
        named([
            ("service_tier", beyond(self.service_tier.as_ref(), &["auto", "standard_only"])),
            ("output_config.effort", beyond(effort, &["high"])),
        ])
    }
}

impl MessagesRequest {
    /// Thoughts are told to those alone who asked for them: others take the first block for the answer.
    pub fn wants_thoughts(&self) -> bool {
        let told = |thinking: &Thinking| thinking.kind != ThinkingKind::Disabled && thinking.display.as_deref() != Some("omitted");
        self.thinking.as_ref().is_some_and(told)
    }

    /// # Errors
    /// Something in it makes no sense, or cannot be done.
    pub fn into_completion(self) -> Result<Completion, Failure> {
        if self.max_tokens.is_none() {
            return Err(Failure::invalid("max_tokens", None, "max_tokens: missing field `max_tokens`."));
        }
        self.into_prompt()
    }

    /// The same of which no answer is wanted.
    ///
    /// # Errors
    /// As [`MessagesRequest::into_completion`].
    pub fn into_prompt(self) -> Result<Completion, Failure> {
        if self.temperature.is_some_and(|temperature| !(0.0..=1.0).contains(&temperature)) {
            return Err(Failure::invalid("temperature", "out_of_range", "temperature must lie between 0 and 1."));
        }
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            max_tokens: self.max_tokens,
            ..Sampling::default()
        };
        let keeps_tools = self.tools.iter().flatten().any(|tool| tool.cache_control.is_some());
        let mut options = Options {
            stop: self.stop_sequences.unwrap_or_default(),
            format: self.output_config.and_then(|config| config.format).map(format).transpose()?,
            single_tool_call: self.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use == Some(true)),
            tool_choice: self.tool_choice.map(tool_choice).transpose()?.unwrap_or_default(),
            tools: tools(self.tools.unwrap_or_default())?,
            think: self.thinking.and_then(|thinking| think(thinking.kind)),
            ..Options::default()
        };
        let (messages, pinned) = messages(self.system, self.messages)?;
        // Templates tell of tools where they tell of the system's text.
        let with_system = keeps_tools && messages.first().is_some_and(|first| first.role == ChatRole::System);
        options.pinned_messages = pinned.max(u32::from(with_system));
        if messages.last().is_some_and(|last| last.role == ChatRole::Assistant) {
            // Anthropic's own newer models refuse it as well.
            let message = "The conversation must end with the user's message; an answer that was begun is not gone on with.";
            return Err(Failure::invalid("messages", "prefill_not_supported", message));
        }
        Ok(Completion { model: self.model, messages, sampling, options })
    }
}

/// Where the model shall decide, it thinks as it is made to.
fn think(kind: ThinkingKind) -> Option<bool> {
    match kind {
        ThinkingKind::Enabled => Some(true),
        ThinkingKind::Disabled => Some(false),
        ThinkingKind::Adaptive | ThinkingKind::BetweenTools => None,
    }
}

fn format(format: OutputFormat) -> Result<Format, Failure> {
    match format.kind.as_str() {
        "json_schema" => Ok(Format::JsonSchema(format.schema)),
        other => {
            let message = format!("output_config.format.type is json_schema, not {other:?}.");
            Err(Failure::invalid("output_config.format.type", None, message))
        }
    }
}

fn tools(entries: Vec<ToolEntry>) -> Result<Vec<Tool>, Failure> {
    let tool = |(at, entry): (usize, ToolEntry)| match (entry.kind.as_deref(), entry.name, entry.input_schema) {
        (None | Some("custom"), Some(name), Some(parameters)) => Ok(Tool { name, description: entry.description, parameters }),
        (None | Some("custom"), ..) => Err(Failure::invalid(format!("tools[{at}]"), None, "A tool has a name and an input_schema.")),
        (Some(kind), ..) => {
            let message = format!("There is no tool of the type {kind:?} here. Tools are described by name and input_schema.");
            Err(Failure::invalid(format!("tools[{at}]"), "unsupported_tool", message))
        }
    };
    entries.into_iter().enumerate().map(tool).collect()
}

fn tool_choice(choice: Choice) -> Result<ToolChoice, Failure> {
    match (choice.kind.as_str(), choice.name) {
        ("auto", _) => Ok(ToolChoice::Auto),
        ("none", _) => Ok(ToolChoice::None),
        ("any", _) => Ok(ToolChoice::Required),
        ("tool", Some(name)) => Ok(ToolChoice::Named(name)),
        _ => Err(Failure::invalid("tool_choice", None, "tool_choice.type is auto, any, none, or tool with a name.")),
    }
}

#[cfg(test)]
mod tests {
    use super::MessagesRequest;
    use inference::{ChatRole, Format, ToolChoice};
    use serde_json::{Value, json};
    use services::Completion;

    fn parsed(more: Value) -> MessagesRequest {
        let mut body = json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(body).unwrap()
    }

    fn with(more: Value) -> Result<Completion, String> {
        parsed(more).into_completion().map_err(|failure| failure.event())
    }

    #[test]
    fn the_least_is_model_messages_and_length() {
        let completion = with(json!({})).unwrap();
        assert_eq!((completion.model.as_str(), completion.sampling.max_tokens), ("m", Some(5)));
        assert_eq!((completion.messages[0].role, completion.options.think), (ChatRole::User, None));
        assert!(with(json!({ "max_tokens": null })).unwrap_err().contains(r#""param":"max_tokens""#));
        assert!(parsed(json!({ "max_tokens": null })).into_prompt().is_ok());
    }

    #[test]
    fn sampling_and_stops() {
        let completion = with(json!({ "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop_sequences": ["END"] })).unwrap();
        assert_eq!((completion.sampling.temperature, completion.sampling.top_k), (Some(0.5), Some(40)));
        assert_eq!(completion.options.stop, ["END"]);
        assert!(with(json!({ "temperature": 1.5 })).unwrap_err().contains(r#""param":"temperature""#));
    }

    #[test]
    fn tools_and_the_choice_between_them() {
        let tools = json!([{ "name": "f", "description": "d", "input_schema": { "type": "object" }, "cache_control": null }]);
        let choice = |value: Value| with(json!({ "tools": tools, "tool_choice": value })).map(|completion| completion.options);
        assert_eq!(choice(json!({ "type": "any" })).unwrap().tool_choice, ToolChoice::Required);
        let one = choice(json!({ "type": "tool", "name": "f", "disable_parallel_tool_use": true })).unwrap();
        assert_eq!((one.tool_choice, one.single_tool_call), (ToolChoice::Named("f".into()), true));
        assert_eq!((one.tools[0].name.as_str(), one.tools[0].description.as_deref()), ("f", Some("d")));
        assert!(choice(json!({ "type": "tool" })).unwrap_err().contains("tool_choice"));
        let search = with(json!({ "tools": [{ "type": "web_search_20260318", "name": "web_search", "max_uses": 5 }] })).unwrap_err();
        assert!(search.contains("tools[0]") && search.contains("unsupported_tool"), "{search}");
        assert!(with(json!({ "tools": [{ "name": "f" }] })).unwrap_err().contains("input_schema"));
    }

    #[test]
    fn tools_that_are_marked_for_the_cache_pin_the_system_s_text() {
        let tools = |mark: Value| json!([{ "name": "f", "input_schema": { "type": "object" }, "cache_control": mark }]);
        let pinned = |more: Value| with(more).unwrap().options.pinned_messages;
        let mark = json!({ "type": "ephemeral" });
        assert_eq!(pinned(json!({ "system": "Be brief.", "tools": tools(mark.clone()) })), 1);
        assert_eq!(pinned(json!({ "system": "Be brief.", "tools": tools(Value::Null) })), 0);
        assert_eq!(pinned(json!({ "tools": tools(mark) })), 0, "there is no message to pin them with");
    }

    #[test]
    fn thoughts_are_made_and_told_as_asked() {
        let asked = |value: Value| {
            let request = parsed(json!({ "thinking": value }));
            (request.wants_thoughts(), request.into_prompt().unwrap().options.think)
        };
        assert_eq!(asked(Value::Null), (false, None));
        assert_eq!(asked(json!({ "type": "enabled", "budget_tokens": 1024 })), (true, Some(true)));
        assert_eq!(asked(json!({ "type": "disabled" })), (false, Some(false)));
        assert_eq!(asked(json!({ "type": "adaptive" })), (true, None));
        assert_eq!(asked(json!({ "type": "adaptive", "display": "omitted" })), (false, None));
    }

    #[test]
    fn an_answer_has_the_form_that_was_asked_for() {
        let config =
            |kind: &str| json!({ "output_config": { "format": { "type": kind, "schema": { "type": "array" } }, "effort": "low" } });
        assert_eq!(with(config("json_schema")).unwrap().options.format, Some(Format::JsonSchema(json!({ "type": "array" }))));
        assert!(with(config("xml")).unwrap_err().contains("output_config.format.type"));
    }

    #[test]
    fn an_answer_that_was_begun_is_refused() {
        let said = json!([{ "role": "user", "content": "Answer in JSON." }, { "role": "assistant", "content": "{" }]);
        assert!(with(json!({ "messages": said })).unwrap_err().contains("prefill_not_supported"));
    }
}

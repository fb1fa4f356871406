//! What a client asks for, and what the funnel is asked for in turn.

use super::messages::{Message, messages};
use crate::{
    failure::Failure,
    known::Known,
    parameters::completion_request,
    structured::one_of,
    wish::{Unmet, Wish, beyond, named},
    words::Words,
};
use inference::{Format, Options, Tool, ToolChoice};
use serde::Deserialize;
use serde_json::{Value, json};
use services::Completion;
use utoipa::ToSchema;

completion_request! {
    /// The body. What is known and has no meaning here is listed too, so that it does not count as unknown; of a [`Wish`] nothing
    /// but the default is done.
    pub struct ChatRequest {
        messages: Vec<Message>,
        max_completion_tokens: Option<u32>,
        logprobs: Option<bool>,
        top_logprobs: Option<u8>,
        response_format: Option<ResponseFormat>,
        tools: Option<Vec<ToolEntry>>,
        /// `auto`, `none`, `required`, or an object that names a function or the tools that are allowed.
        tool_choice: Option<Value>,
        parallel_tool_calls: Option<bool>,
        reasoning_effort: Option<Effort>,
        #[serde(rename = "metadata")]
        #[schema(schema_with = crate::known::schema)]
        _metadata: Option<Known>,
        #[schema(schema_with = crate::wish::schema)]
        store: Option<Wish>,
        #[schema(schema_with = crate::wish::schema)]
        service_tier: Option<Wish>,
        #[serde(rename = "safety_identifier")]
        #[schema(schema_with = crate::known::schema)]
        _safety_identifier: Option<Known>,
        #[serde(rename = "prompt_cache_key")]
        #[schema(schema_with = crate::known::schema)]
        _prompt_cache_key: Option<Known>,
        #[schema(schema_with = crate::wish::schema)]
        verbosity: Option<Wish>,
        #[schema(schema_with = crate::wish::schema)]
        modalities: Option<Wish>,
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatResponseFormat)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatJsonSchema)]
struct JsonSchema {
    name: String,
    /// JSON Schema.
    schema: Option<Value>,
    #[serde(rename = "description")]
    #[schema(schema_with = crate::known::schema)]
    _description: Option<Known>,
    /// Answers match the schema whether or not it is strict.
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatTool)]
struct ToolEntry {
    #[serde(rename = "type")]
    kind: String,
    function: Option<Function>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatFunction)]
struct Function {
    name: String,
    description: Option<String>,
    /// JSON Schema of the arguments.
    parameters: Option<Value>,
    #[serde(rename = "strict")]
    _strict: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ReasoningEffort)]
enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Unmet for ChatRequest {
    fn unmet(&self) -> Vec<&'static str> {
        named([
            ("store", beyond(self.store.as_ref(), &[])),
            ("service_tier", beyond(self.service_tier.as_ref(), &["auto", "default"])),
            ("verbosity", beyond(self.verbosity.as_ref(), &["medium"])),
            ("modalities", beyond(self.modalities.as_ref(), &["text"])),
        ])
    }
}

/// Where the longest answer is asked for by its newer name.
const NEWER: Words = Words(&[("max_tokens", "max_completion_tokens")]);

impl ChatRequest {
    /// The client's words for the fields that services name.
    pub fn words(&self) -> &'static Words {
        if self.max_completion_tokens.is_some() { &NEWER } else { &Words(&[]) }
    }

    /// # Errors
    /// Something in it makes no sense, or cannot be done.
    pub fn into_completion(self) -> Result<Completion, Failure> {
        let (mut sampling, options) = self.parameters().split()?;
        sampling.max_tokens = self.max_completion_tokens.or(sampling.max_tokens);
        let mut tools = tools(self.tools.unwrap_or_default())?;
        let tool_choice = self.tool_choice.as_ref().map(|choice| tool_choice(choice, &mut tools)).transpose()?.unwrap_or_default();
        let options = Options {
            format: one_of("response_format", self.response_format.map(format).transpose()?.flatten(), options.format)?,
            logprobs: logprobs(self.logprobs, self.top_logprobs)?,
            tool_choice,
            single_tool_call: self.parallel_tool_calls == Some(false),
            think: self.reasoning_effort.map(|effort| !matches!(effort, Effort::None | Effort::Minimal)),
            tools,
            ..options
        };
        let messages = messages(self.messages)?;
        Ok(Completion { model: self.model, options: options.pinning_known(&messages), messages, sampling })
    }
}

fn logprobs(wanted: Option<bool>, top: Option<u8>) -> Result<Option<u8>, Failure> {
    match (wanted.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(Failure::invalid("top_logprobs", "needs_logprobs", "top_logprobs needs logprobs to be true.")),
    }
}

fn format(format: ResponseFormat) -> Result<Option<Format>, Failure> {
    match format.kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonSchema(json!({ "type": "object" })))),
        "json_schema" => {
            let Some(schema) = format.json_schema else {
                return Err(Failure::invalid("response_format.json_schema", None, "response_format.json_schema is missing."));
            };
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if !((1..=64).contains(&schema.name.len()) && schema.name.bytes().all(fits)) {
                let message = "The name has 1 to 64 letters, digits, `_` and `-`.";
                return Err(Failure::invalid("response_format.json_schema.name", None, message));
            }
            Ok(Some(Format::JsonSchema(schema.schema.unwrap_or_else(|| json!({})))))
        }
        other => {
            let message = format!("response_format.type is text, json_object or json_schema, not {other:?}.");
            Err(Failure::invalid("response_format.type", None, message))
        }
    }
}

fn tools(entries: Vec<ToolEntry>) -> Result<Vec<Tool>, Failure> {
    let tool = |(at, entry): (usize, ToolEntry)| {
        let function = entry.function.filter(|_| entry.kind == "function").ok_or_else(|| {
            Failure::invalid(format!("tools[{at}]"), "unsupported_tool", "Tools are of the type function, with a function.")
        })?;
        let parameters = function.parameters.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
        Ok(Tool { name: function.name, description: function.description, parameters })
    };
    entries.into_iter().enumerate().map(tool).collect()
}

/// Takes the tools away that the choice does not allow.
fn tool_choice(choice: &Value, tools: &mut Vec<Tool>) -> Result<ToolChoice, Failure> {
    let wrong = || {
        let message = "tool_choice is auto, none, required, or an object that names a function or the tools that are allowed.";
        Failure::invalid("tool_choice", None, message)
    };
    match (choice, choice["type"].as_str()) {
        (Value::Null, _) => Ok(ToolChoice::Auto),
        (Value::String(word), _) => word_choice(word).ok_or_else(wrong),
        (_, Some("allowed_tools")) => {
            let allowed = &choice["allowed_tools"];
            let name = |tool: &Value| tool["function"]["name"].as_str().map(str::to_owned);
            let names: Vec<String> = allowed["tools"].as_array().ok_or_else(wrong)?.iter().filter_map(name).collect();
            tools.retain(|tool| names.contains(&tool.name));
            allowed["mode"].as_str().and_then(word_choice).ok_or_else(wrong)
        }
        _ => choice["function"]["name"].as_str().map(|name| ToolChoice::Named(name.into())).ok_or_else(wrong),
    }
}

/// The choices that are words.
pub fn word_choice(word: &str) -> Option<ToolChoice> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::ChatRequest;
    use inference::{ChatRole, Format, ToolChoice};
    use serde_json::{Value, json};
    use services::Completion;

    fn with(more: Value) -> Result<Completion, String> {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<ChatRequest>(body).map_err(|error| error.to_string())?.into_completion().map_err(|failure| failure.event())
    }

    #[test]
    fn the_least_is_model_and_messages() {
        let completion = with(json!({})).unwrap();
        assert_eq!(completion.model, "m");
        assert_eq!(completion.messages[0].role, ChatRole::User);
        assert_eq!(completion.options.n, 1);
        assert!(completion.options.format.is_none() && completion.options.logprobs.is_none());
        with(json!({ "temperature": null, "stop": null, "tools": null, "n": null, "logit_bias": null })).unwrap();
    }

    #[test]
    fn both_names_of_the_longest_answer_are_understood() {
        assert_eq!(with(json!({ "max_tokens": 5 })).unwrap().sampling.max_tokens, Some(5));
        assert_eq!(with(json!({ "max_tokens": 5, "max_completion_tokens": 7 })).unwrap().sampling.max_tokens, Some(7));
    }

    #[test]
    fn formats_are_schemas() {
        let format = |value: Value| with(json!({ "response_format": value })).map(|completion| completion.options.format);
        assert_eq!(format(json!({ "type": "text" })).unwrap(), None);
        assert_eq!(format(json!({ "type": "json_object" })).unwrap(), Some(Format::JsonSchema(json!({ "type": "object" }))));
        let schema = json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": { "type": "array" } } });
        assert_eq!(format(schema).unwrap(), Some(Format::JsonSchema(json!({ "type": "array" }))));
        assert!(format(json!({ "type": "json_schema" })).unwrap_err().contains("response_format.json_schema"));
        assert!(format(json!({ "type": "json_schema", "json_schema": { "name": "a b" } })).unwrap_err().contains("json_schema.name"));
        assert!(format(json!({ "type": "xml" })).unwrap_err().contains("response_format.type"));
    }

    #[test]
    fn a_form_is_asked_for_in_one_way() {
        let regex = Some(Format::Regex("a+".into()));
        assert_eq!(with(json!({ "structured_outputs": { "regex": "a+" } })).unwrap().options.format, regex);
        assert_eq!(with(json!({ "guided_regex": "a+", "response_format": { "type": "text" } })).unwrap().options.format, regex);
        let both = with(json!({ "guided_regex": "a+", "response_format": { "type": "json_object" } })).unwrap_err();
        assert!(both.contains(r#""param":"response_format""#), "{both}");
        assert!(with(json!({ "guided_regex": "(" })).unwrap_err().contains(r#""param":"guided_regex""#));
    }

    #[test]
    fn leading_instructions_are_pinned_once_they_are_known() {
        let pinned = |roles: &[&str]| {
            let messages: Vec<Value> = roles.iter().map(|role| json!({ "role": role, "content": "x" })).collect();
            let options = with(json!({ "messages": messages })).unwrap().options;
            assert!(options.pin_known_only, "If you are here because this failed: prompts that come once take the room of pins.");
            options.pinned_messages
        };
        assert_eq!([pinned(&["user", "system"]), pinned(&["system", "user"]), pinned(&["system", "developer", "user"])], [0, 1, 2]);
    }

    #[test]
    fn tools_and_the_choice_between_them() {
        let tools = json!([{ "type": "function", "function": { "name": "f", "strict": true } }]);
        let choice = |value: Value| with(json!({ "tools": tools, "tool_choice": value })).map(|completion| completion.options.tool_choice);
        assert_eq!(choice(json!("required")).unwrap(), ToolChoice::Required);
        assert_eq!(choice(json!({ "type": "function", "function": { "name": "f" } })).unwrap(), ToolChoice::Named("f".into()));
        let allowed = json!({ "type": "allowed_tools", "allowed_tools": { "mode": "required", "tools": [{ "type": "function", "function": { "name": "g" } }] } });
        let narrowed = with(json!({ "tools": tools, "tool_choice": allowed })).unwrap().options;
        assert_eq!((narrowed.tool_choice, narrowed.tools.len()), (ToolChoice::Required, 0));
        assert!(choice(json!("perhaps")).unwrap_err().contains("tool_choice"));
        assert!(with(json!({ "tools": [{ "type": "web_search" }] })).unwrap_err().contains("tools[0]"));
        assert!(with(json!({ "parallel_tool_calls": false })).unwrap().options.single_tool_call);
    }

    #[test]
    fn the_rest_is_checked_by_name() {
        assert!(with(json!({ "n": 0 })).unwrap_err().contains(r#""param":"n""#));
        assert!(with(json!({ "logit_bias": { "x": 1 } })).unwrap_err().contains("logit_bias.x"));
        assert!(with(json!({ "top_logprobs": 3 })).unwrap_err().contains("top_logprobs"));
        assert_eq!(with(json!({ "logprobs": true, "top_logprobs": 3 })).unwrap().options.logprobs, Some(3));
        assert_eq!(with(json!({ "reasoning_effort": "none" })).unwrap().options.think, Some(false));
    }
}

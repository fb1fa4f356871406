//! What a client asks for, and what the service is asked for in turn.

use super::{
    body::parse_response_id,
    input::{TextOr, WireItem, input},
    tools::{ToolEntry, tool_choice, tools},
};
use crate::{
    failure::Failure,
    known::Known,
    openapi,
    structured::{StructuredOutputs, form, one_of},
    wish::{Unmet, Wish, beyond, named, other_than},
};
use contract::model::Sampling;
use inference::{Format, Options};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use services::responses::CreateResponse;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The body. What is known and has no meaning here is listed too, so that it does not count as unknown.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResponsesRequest {
    /// One of those that `GET /v1/models` lists.
    model: String,
    pub stream: Option<bool>,
    #[schema(schema_with = openapi::text_or::<WireItem>)]
    input: Option<TextOr<WireItem>>,
    instructions: Option<String>,
    /// The response that this one goes on from.
    previous_response_id: Option<String>,
    /// Keep it, so that it can be asked for again. True where nothing is said.
    store: Option<bool>,
    /// Answer at once and go on without the client.
    background: Option<bool>,
    /// Longest answer, in tokens.
    max_output_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    text: Option<TextOptions>,
    /// What the answer looks like, in vLLM's words.
    structured_outputs: Option<StructuredOutputs>,
    reasoning: Option<Reasoning>,
    tools: Option<Vec<ToolEntry>>,
    /// `auto`, `none`, `required`, or an object that names a function or the tools that are allowed.
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    metadata: Option<BTreeMap<String, String>>,
    /// `auto` or `disabled`; nothing is cut either way.
    truncation: Option<String>,
    user: Option<String>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
    max_tool_calls: Option<u32>,
    /// Refused: there are no conversations here.
    conversation: Option<Value>,
    /// Refused: there are no prompt templates here.
    prompt: Option<Value>,
    #[schema(schema_with = crate::wish::schema)]
    include: Option<Wish>,
    #[serde(rename = "stream_options")]
    #[schema(schema_with = crate::known::schema)]
    _stream_options: Option<Known>,
    #[schema(schema_with = crate::wish::schema)]
    top_logprobs: Option<Wish>,
    #[schema(schema_with = crate::wish::schema)]
    service_tier: Option<Wish>,
    #[serde(rename = "prompt_cache_retention")]
    #[schema(schema_with = crate::known::schema)]
    _prompt_cache_retention: Option<Known>,
    #[serde(rename = "prompt_cache_options")]
    #[schema(schema_with = crate::known::schema)]
    _prompt_cache_options: Option<Known>,
    #[schema(schema_with = crate::wish::schema)]
    context_management: Option<Wish>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[schema(as = ResponseText)]
struct TextOptions {
    #[serde(default)]
    format: Option<TextFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ResponseTextFormat)]
struct TextFormat {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
    /// Answers match the schema whether or not it is strict.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[schema(as = ResponseReasoning)]
struct Reasoning {
    effort: Option<String>,
    /// There is none: what was thought is told as it was.
    summary: Option<String>,
    /// The older name for it.
    #[serde(skip_serializing)]
    generate_summary: Option<Wish>,
    #[serde(rename = "context", skip_serializing)]
    _context: Option<Known>,
    #[serde(rename = "mode", skip_serializing)]
    _mode: Option<Known>,
}

/// What a response shows of its request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseEcho)]
pub struct Echo {
    store: bool,
    max_output_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    text: TextOptions,
    reasoning: Reasoning,
    tools: Vec<ToolEntry>,
    tool_choice: Value,
    parallel_tool_calls: bool,
    truncation: String,
    max_tool_calls: Option<u32>,
    service_tier: &'static str,
    user: Option<String>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
}

impl Unmet for ResponsesRequest {
    fn unmet(&self) -> Vec<&'static str> {
        let reasoning = self.reasoning.as_ref();
        let summary = reasoning.and_then(|reasoning| reasoning.summary.as_deref());
        let older = reasoning.and_then(|reasoning| reasoning.generate_summary.as_ref());
        let verbosity = self.text.as_ref().and_then(|text| text.verbosity.as_deref());
        named([
            ("truncation", other_than(self.truncation.as_deref(), &["disabled"])),
            ("text.verbosity", other_than(verbosity, &["medium"])),
            ("reasoning.summary", other_than(summary, &[])),
            ("reasoning.generate_summary", beyond(older, &[])),
            ("include", beyond(self.include.as_ref(), &[])),
            ("top_logprobs", beyond(self.top_logprobs.as_ref(), &[])),
            ("service_tier", beyond(self.service_tier.as_ref(), &["auto", "default"])),
            ("context_management", beyond(self.context_management.as_ref(), &[])),
        ])
    }
}

impl ResponsesRequest {
    /// # Errors
    /// Something in it makes no sense, or cannot be done.
    pub fn into_create(self) -> Result<CreateResponse, Failure> {
        refuse_unsupported(&self)?;
        let mut tools = tools(self.tools.as_deref().unwrap_or_default())?;
        let asked = self.text.as_ref().and_then(|text| text.format.as_ref()).map(format).transpose()?.flatten();
        let options = Options {
            format: one_of("text.format", asked, form(self.structured_outputs, StructuredOutputs::default())?)?,
            tool_choice: tool_choice(self.tool_choice.as_ref(), &mut tools)?,
            single_tool_call: self.parallel_tool_calls == Some(false),
            think: think(self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref()))?,
            tools,
            n: 1,
            ..Options::default()
        };
        #[expect(clippy::cast_possible_truncation, reason = "the engine samples with 32 bits")]
        let narrow = |number: f64| number as f32;
        let sampling = Sampling {
            temperature: self.temperature.map(narrow),
            top_p: self.top_p.map(narrow),
            max_tokens: self.max_output_tokens,
            ..Sampling::default()
        };
        let store = self.store.unwrap_or(true);
        let mut text = self.text.unwrap_or_default();
        text.format.get_or_insert_with(|| TextFormat { kind: "text".into(), name: None, description: None, schema: None, strict: None });
        let echo = Echo {
            store,
            max_output_tokens: self.max_output_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            text,
            reasoning: self.reasoning.unwrap_or_default(),
            tools: self.tools.unwrap_or_default(),
            tool_choice: self.tool_choice.unwrap_or_else(|| "auto".into()),
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            // Nothing is cut, whatever was asked for.
            truncation: "disabled".into(),
            max_tool_calls: self.max_tool_calls,
            service_tier: "default",
            user: self.user,
            safety_identifier: self.safety_identifier,
            prompt_cache_key: self.prompt_cache_key,
        };
        Ok(CreateResponse {
            model: self.model,
            instructions: self.instructions,
            input: self.input.map(input).transpose()?.unwrap_or_default(),
            previous: self.previous_response_id.as_deref().map(previous).transpose()?,
            sampling,
            options,
            metadata: self.metadata.unwrap_or_default(),
            // Our own types always serialise.
            echo: serde_json::to_value(echo).unwrap_or_else(|_| json!({})),
            store,
            background: self.background.unwrap_or(false),
        })
    }
}

fn refuse_unsupported(request: &ResponsesRequest) -> Result<(), Failure> {
    let unsupported = |param: &str| Err(Failure::invalid(param, "unsupported_parameter", format!("There is no {param} here.")));
    if request.conversation.is_some() {
        return unsupported("conversation");
    }
    if request.prompt.is_some() {
        return unsupported("prompt");
    }
    if request.max_output_tokens == Some(0) {
        return Err(Failure::invalid("max_output_tokens", "out_of_range", "max_output_tokens must be at least 1."));
    }
    match request.truncation.as_deref() {
        None | Some("auto" | "disabled") => Ok(()),
        Some(_) => Err(Failure::invalid("truncation", None, "truncation is auto or disabled.")),
    }
}

fn previous(id: &str) -> Result<contract::ids::ResponseId, Failure> {
    let missing = || Failure::invalid("previous_response_id", "previous_response_not_found", "There is no such response.");
    parse_response_id(id).ok_or_else(missing)
}

fn think(effort: Option<&str>) -> Result<Option<bool>, Failure> {
    match effort {
        None => Ok(None),
        Some("none" | "minimal") => Ok(Some(false)),
        Some("low" | "medium" | "high" | "xhigh" | "max") => Ok(Some(true)),
        Some(_) => Err(Failure::invalid("reasoning.effort", None, "reasoning.effort is none, minimal, low, medium, high, xhigh or max.")),
    }
}

fn format(format: &TextFormat) -> Result<Option<Format>, Failure> {
    match format.kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonSchema(json!({ "type": "object" })))),
        "json_schema" => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let name = format.name.as_deref().unwrap_or_default();
            if !((1..=64).contains(&name.len()) && name.bytes().all(fits)) {
                return Err(Failure::invalid("text.format.name", None, "The name has 1 to 64 letters, digits, `_` and `-`."));
            }
            let missing = || Failure::invalid("text.format.schema", None, "text.format.schema is missing.");
            format.schema.clone().map(Format::JsonSchema).map(Some).ok_or_else(missing)
        }
        other => {
            let message = format!("text.format.type is text, json_object or json_schema, not {other:?}.");
            Err(Failure::invalid("text.format.type", None, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ResponsesRequest;
    use inference::{Format, ToolChoice};
    use serde_json::{Value, json};
    use services::responses::CreateResponse;

    fn with(more: Value) -> Result<CreateResponse, String> {
        let mut body = json!({ "model": "m", "input": "hi" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<ResponsesRequest>(body)
            .map_err(|error| error.to_string())?
            .into_create()
            .map_err(|failure| failure.event())
    }

    #[test]
    fn the_least_is_model_and_input() {
        let create = with(json!({})).unwrap();
        assert!(create.store && !create.background && create.previous.is_none() && create.input.len() == 1);
        assert_eq!((&create.echo["tool_choice"], &create.echo["text"]), (&json!("auto"), &json!({ "format": { "type": "text" } })));
        with(json!({ "tools": null, "text": null, "reasoning": null, "metadata": null, "include": null, "conversation": null })).unwrap();
    }

    #[test]
    fn parameters_are_shown_as_they_came() {
        let create = with(json!({ "temperature": 0.7, "max_output_tokens": 9, "reasoning": { "effort": "low" } })).unwrap();
        assert_eq!((&create.echo["temperature"], &create.echo["max_output_tokens"]), (&json!(0.7), &json!(9)));
        assert_eq!(create.echo["reasoning"], json!({ "effort": "low", "summary": null }));
        assert_eq!((create.sampling.temperature, create.sampling.max_tokens, create.options.think), (Some(0.7), Some(9), Some(true)));
    }

    #[test]
    fn formats_are_schemas() {
        let format = |value: Value| with(json!({ "text": { "format": value } })).map(|create| create.options.format);
        assert_eq!(format(json!({ "type": "text" })).unwrap(), None);
        assert_eq!(format(json!({ "type": "json_object" })).unwrap(), Some(Format::JsonSchema(json!({ "type": "object" }))));
        let schema = json!({ "type": "json_schema", "name": "x", "strict": true, "schema": { "type": "array" } });
        assert_eq!(format(schema).unwrap(), Some(Format::JsonSchema(json!({ "type": "array" }))));
        assert!(format(json!({ "type": "json_schema", "name": "x" })).unwrap_err().contains("text.format.schema"));
        assert!(format(json!({ "type": "json_schema", "name": "a b", "schema": {} })).unwrap_err().contains("text.format.name"));
        assert!(format(json!({ "type": "xml" })).unwrap_err().contains("text.format.type"));
    }

    #[test]
    fn a_form_is_asked_for_in_one_way() {
        let structured = json!({ "regex": "a+" });
        let create = with(json!({ "structured_outputs": structured })).unwrap();
        assert_eq!(create.options.format, Some(Format::Regex("a+".into())));
        let both = with(json!({ "structured_outputs": structured, "text": { "format": { "type": "json_object" } } })).unwrap_err();
        assert!(both.contains(r#""param":"text.format""#), "{both}");
    }

    #[test]
    fn tools_and_the_choice_between_them() {
        let tools = json!([{ "type": "function", "name": "f", "strict": true }, { "type": "function", "name": "g" }]);
        let choice = |value: Value| with(json!({ "tools": tools, "tool_choice": value })).map(|create| create.options);
        assert_eq!(choice(json!("required")).unwrap().tool_choice, ToolChoice::Required);
        assert_eq!(choice(json!({ "type": "function", "name": "f" })).unwrap().tool_choice, ToolChoice::Named("f".into()));
        let allowed = json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "g" }] });
        let options = choice(allowed).unwrap();
        assert_eq!((options.tool_choice, options.tools.len(), options.tools[0].name.as_str()), (ToolChoice::Required, 1, "g"));
        for wrong in [json!("perhaps"), json!({ "type": "web_search" }), json!({ "type": "function" }), json!(7)] {
            assert!(choice(wrong).unwrap_err().contains("tool_choice"));
        }
        assert!(with(json!({ "tools": [{ "type": "web_search" }] })).unwrap_err().contains("tools[0]"));
        assert!(with(json!({ "parallel_tool_calls": false })).unwrap().options.single_tool_call);
    }

    #[test]
    fn the_rest_is_checked_by_name() {
        let refused = |value: Value| with(value).unwrap_err();
        assert!(refused(json!({ "previous_response_id": "resp_x" })).contains("previous_response_not_found"));
        assert!(refused(json!({ "conversation": "conv_1" })).contains(r#""param":"conversation""#));
        assert!(refused(json!({ "max_output_tokens": 0 })).contains("max_output_tokens"));
        assert!(refused(json!({ "truncation": "sometimes" })).contains("truncation"));
        assert!(refused(json!({ "reasoning": { "effort": "heroic" } })).contains("reasoning.effort"));
    }
}

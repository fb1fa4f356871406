//! Tools, calls of them and the choice among them, in the words of OpenAI's protocol.

use serde::Serialize;
use serde_json::Value;
use worker_protocol::{Tool, ToolCall, ToolChoice};

/// A tool, a call or a choice: all of them are of functions.
#[derive(Serialize)]
pub(super) struct OfFunction<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: T,
}

#[derive(Serialize)]
pub(super) struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a Value,
}

#[derive(Serialize)]
pub(super) struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Choice<'a> {
    Word(&'static str),
    Named(OfFunction<'a, Named<'a>>),
}

#[derive(Serialize)]
pub(super) struct Named<'a> {
    name: &'a str,
}

fn of_function<T>(function: T) -> OfFunction<'static, T> {
    OfFunction { id: None, kind: "function", function }
}

pub(super) fn tool(tool: &Tool) -> OfFunction<'_, Function<'_>> {
    of_function(Function { name: &tool.name, description: tool.description.as_deref(), parameters: &tool.parameters })
}

pub(super) fn call_of(call: &ToolCall) -> OfFunction<'_, Called<'_>> {
    OfFunction { id: Some(&call.id), ..of_function(Called { name: &call.name, arguments: &call.arguments }) }
}

pub(super) fn tool_choice(choice: &ToolChoice) -> Option<Choice<'_>> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(Choice::Word("none")),
        ToolChoice::Required => Some(Choice::Word("required")),
        ToolChoice::Named(name) => Some(Choice::Named(of_function(Named { name }))),
    }
}

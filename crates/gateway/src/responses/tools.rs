//! What a model may call, and whether it must.

use crate::{chat::word_choice, failure::Failure};
use inference::{Tool, ToolChoice};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// A tool as clients write it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ResponseTool)]
pub struct ToolEntry {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

/// The same for the model.
///
/// # Errors
/// One of them is no function.
pub fn tools(entries: &[ToolEntry]) -> Result<Vec<Tool>, Failure> {
    let tool = |(at, entry): (usize, &ToolEntry)| {
        let unsupported = || Failure::invalid(format!("tools[{at}]"), "unsupported_tool", "Tools are of the type function, with a name.");
        let name = entry.name.clone().filter(|_| entry.kind == "function").ok_or_else(unsupported)?;
        let parameters = entry.parameters.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
        Ok(Tool { name, description: entry.description.clone(), parameters })
    };
    entries.iter().enumerate().map(tool).collect()
}

/// Takes the tools away that the choice does not allow.
///
/// # Errors
/// It makes no sense.
pub fn tool_choice(choice: Option<&Value>, tools: &mut Vec<Tool>) -> Result<ToolChoice, Failure> {
    let wrong = || {
        let message = "tool_choice is auto, none, required, or an object that names a function or the tools that are allowed.";
        Failure::invalid("tool_choice", None, message)
    };
    let Some(choice) = choice else { return Ok(ToolChoice::Auto) };
    match (choice.as_str(), choice["type"].as_str()) {
        (Some(word), _) => word_choice(word).ok_or_else(wrong),
        (None, Some("function")) => choice["name"].as_str().map(|name| ToolChoice::Named(name.into())).ok_or_else(wrong),
        (None, Some("allowed_tools")) => {
            let allowed: Vec<&str> =
                choice["tools"].as_array().ok_or_else(wrong)?.iter().filter_map(|tool| tool["name"].as_str()).collect();
            tools.retain(|tool| allowed.contains(&tool.name.as_str()));
            choice["mode"].as_str().and_then(word_choice).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

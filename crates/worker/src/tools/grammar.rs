//! A grammar for answers that must call a tool.

use serde_json::{Value, json};
use worker_protocol::{Format, Tool, ToolChoice};

use super::Family;
use crate::constraint::compact;

/// Whatever ends with the mark that ends thoughts.
const THOUGHTS: &str = "thoughts[suffix=\"</think>\"]: /(.|\\n)*/\n";

/// The family whose words a forced call uses, and the grammar; `None` if nothing is forced. `thinking`: the prompt has
/// begun the model's thoughts, which end before the call.
pub fn forced(family: Family, tools: &[Tool], choice: &ToolChoice, single: bool, thinking: bool) -> Option<(Family, Format)> {
    let callable: Vec<&Tool> = match choice {
        ToolChoice::Auto | ToolChoice::None => return None,
        ToolChoice::Required => tools.iter().collect(),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    // The others' forms are no JSON from beginning to end; any model can follow this one.
    let family = match family {
        Family::Xml | Family::DeepSeek => Family::Hermes,
        other => other,
    };
    let key = if family == Family::Llama3 { "parameters" } else { "arguments" };
    let names: Vec<String> = (0..callable.len()).map(|n| format!("call_{n}")).collect();
    let mut lark = String::new();
    let think = if thinking { "thoughts \"\\n\\n\" " } else { "" };
    let (start, more) = match family {
        Family::Llama3 => ("call".to_owned(), "(\"; \" call)*"),
        Family::Mistral => ("\"[TOOL_CALLS][\" call".to_owned(), "(\", \" call)* \"]\""),
        _ => ("block".to_owned(), "(\"\\n\" block)*"),
    };
    let end = if single { more.split_once(")*").map_or("", |(_, end)| end) } else { more };
    lark.push_str(&format!("start: {think}{start} {end}\n"));
    if thinking {
        lark.push_str(THOUGHTS);
    }
    if matches!(family, Family::Hermes) {
        lark.push_str("block: \"<tool_call>\\n\" call \"\\n</tool_call>\"\n");
    }
    lark.push_str(&format!("call: {}\n", names.join(" | ")));
    for (name, tool) in names.iter().zip(callable) {
        lark.push_str(&format!("{name}: %json {}\n", compact(object(tool, key))));
    }
    Some((family, Format::Lark(lark)))
}

/// `format` behind the model's thoughts, which the prompt has begun; `None` where that cannot be said.
pub fn after_thoughts(format: &Format) -> Option<Format> {
    let answer = match format {
        Format::JsonSchema(schema) => format!("%json {}", compact(schema.clone())),
        Format::Regex(_) | Format::Choice(_) | Format::Lark(_) => return None,
    };
    Some(Format::Lark(format!("start: thoughts \"\\n\\n\" answer\n{THOUGHTS}answer: {answer}\n")))
}

fn object(tool: &Tool, key: &str) -> Value {
    let parameters = if tool.parameters.as_object().is_some_and(|schema| !schema.is_empty()) {
        tool.parameters.clone()
    } else {
        json!({"type": "object"})
    };
    json!({
        "type": "object",
        "properties": {"name": {"const": tool.name}, key: parameters},
        "required": ["name", key],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Tool {
        Tool { name: name.into(), description: None, parameters: json!({"type": "object", "properties": {"a": {"type": "integer"}}}) }
    }

    #[test]
    fn only_what_is_asked_for_is_forced() {
        let tools = [tool("x"), tool("y")];
        assert_eq!(forced(Family::Hermes, &tools, &ToolChoice::Auto, false, false), None);
        let (family, Format::Lark(lark)) = forced(Family::DeepSeek, &tools, &ToolChoice::Named("y".into()), true, false).unwrap() else {
            panic!("a grammar")
        };
        assert_eq!(family, Family::Hermes);
        assert!(lark.contains("\"y\"") && !lark.contains("\"x\"") && !lark.contains(")*"), "{lark}");
        let (_, Format::Lark(lark)) = forced(Family::Mistral, &tools, &ToolChoice::Required, true, true).unwrap() else {
            panic!("a grammar")
        };
        assert!(lark.starts_with("start: thoughts \"\\n\\n\" \"[TOOL_CALLS][\" call  \"]\"\n"), "{lark}");
    }
}

//! A grammar for answers that must call a tool.

use serde_json::{Value, json};
use worker_protocol::{Format, Tool, ToolChoice};

use super::{Family, Thoughts};
use crate::constraint::compact;

/// The family whose words a forced call uses, and the grammar; `None` if nothing is forced. `begun`: the thoughts that
/// the prompt has begun, which end before the call.
pub fn forced(family: Family, tools: &[Tool], choice: &ToolChoice, single: bool, begun: Option<&Thoughts>) -> Option<(Family, Format)> {
    let callable: Vec<&Tool> = match choice {
        ToolChoice::Auto | ToolChoice::None => return None,
        ToolChoice::Required => tools.iter().collect(),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    // The others' forms are no JSON from beginning to end, or need marks that are control tokens; any model can follow
    // that of Hermes.
    let family = match family {
        Family::Llama3 | Family::Pythonic | Family::Mistral | Family::Harmony => family,
        _ => Family::Hermes,
    };
    let key = if matches!(family, Family::Llama3 | Family::Pythonic) { "parameters" } else { "arguments" };
    let names: Vec<String> = (0..callable.len()).map(|n| format!("call_{n}")).collect();
    let mut lark = String::new();
    let think = if begun.is_some() { "thoughts \"\\n\\n\" " } else { "" };
    let (start, more) = match family {
        Family::Llama3 | Family::Pythonic => ("call", "(\"; \" call)*"),
        Family::Mistral => ("\"[TOOL_CALLS][\" call", "(\", \" call)* \"]\""),
        // There each call ends the answer.
        Family::Harmony => ("call", ""),
        _ => ("block", "(\"\\n\" block)*"),
    };
    let end = if single { more.split_once(")*").map_or("", |(_, end)| end) } else { more };
    lark.push_str(&format!("start: {think}{start} {end}\n"));
    if let Some(begun) = begun {
        lark.push_str(&thoughts(begun));
    }
    if family == Family::Hermes {
        lark.push_str("block: \"<tool_call>\\n\" call \"\\n</tool_call>\"\n");
    }
    lark.push_str(&format!("call: {}\n", names.join(" | ")));
    for (name, tool) in names.iter().zip(callable) {
        if family == Family::Harmony {
            // llama.cpp makes ordinary tokens of these marks, so that a grammar can say them.
            let header = format!("<|channel|>commentary to=functions.{} <|constrain|>json<|message|>", tool.name);
            lark.push_str(&format!("{name}: {} {name}_arguments\n", Value::from(header)));
            lark.push_str(&format!("{name}_arguments: %json {}\n", compact(parameters(tool))));
        } else {
            lark.push_str(&format!("{name}: %json {}\n", compact(object(tool, key))));
        }
    }
    Some((family, Format::Lark(lark)))
}

/// Whatever ends with the mark that ends thoughts.
fn thoughts(begun: &Thoughts) -> String {
    format!("thoughts[suffix={}]: /(.|\\n)*/\n", Value::from(begun.close))
}

/// `format` behind the model's thoughts, which the prompt has begun; `None` where that cannot be said.
pub fn after_thoughts(format: &Format, begun: &Thoughts) -> Option<Format> {
    let answer = match format {
        Format::JsonSchema(schema) => format!("%json {}", compact(schema.clone())),
        Format::Regex(_) | Format::Choice(_) | Format::Lark(_) => return None,
    };
    Some(Format::Lark(format!("start: thoughts \"\\n\\n\" answer\n{}answer: {answer}\n", thoughts(begun))))
}

/// The schema of a tool's arguments.
fn parameters(tool: &Tool) -> Value {
    if tool.parameters.as_object().is_some_and(|schema| !schema.is_empty()) { tool.parameters.clone() } else { json!({"type": "object"}) }
}

fn object(tool: &Tool, key: &str) -> Value {
    json!({
        "type": "object",
        "properties": {"name": {"const": tool.name}, key: parameters(tool)},
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
        assert_eq!(forced(Family::Hermes, &tools, &ToolChoice::Auto, false, None), None);
        let (family, Format::Lark(lark)) = forced(Family::DeepSeek, &tools, &ToolChoice::Named("y".into()), true, None).unwrap() else {
            panic!("a grammar")
        };
        assert_eq!(family, Family::Hermes);
        assert!(lark.contains("\"y\"") && !lark.contains("\"x\"") && !lark.contains(")*"), "{lark}");
        let (_, Format::Lark(lark)) = forced(Family::Mistral, &tools, &ToolChoice::Required, true, Thoughts::of("</think>")).unwrap()
        else {
            panic!("a grammar")
        };
        let start = "start: thoughts \"\\n\\n\" \"[TOOL_CALLS][\" call  \"]\"\nthoughts[suffix=\"</think>\"]: /(.|\\n)*/\n";
        assert!(lark.starts_with(start), "{lark}");
    }

    #[test]
    fn what_is_forced_is_in_the_words_of_a_family_that_reads_it() {
        let tools = [tool("x")];
        let forced = |family| forced(family, &tools, &ToolChoice::Required, false, None).expect("forced");
        for family in [Family::Gemma, Family::Glm, Family::Kimi, Family::MiniMax, Family::Command, Family::Granite] {
            assert_eq!(forced(family), forced(Family::Hermes));
        }
        assert_eq!(forced(Family::Pythonic).1, forced(Family::Llama3).1);
        let (family, Format::Lark(lark)) = forced(Family::Harmony) else { panic!("a grammar") };
        assert_eq!(family, Family::Harmony);
        let call =
            "start: call \ncall: call_0\ncall_0: \"<|channel|>commentary to=functions.x <|constrain|>json<|message|>\" call_0_arguments\n";
        assert!(lark.starts_with(call), "{lark}");
    }
}

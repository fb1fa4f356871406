//! From what stands between a family's marks to calls.

use worker_protocol::Tool;

use super::family::Family;
use super::forms::gemma::gemma;
use super::forms::objects::{mistral, objects};
use super::forms::python::python;
use super::forms::sections::{deepseek, kimi};
use super::forms::tags::{DSML, FUNCTIONS, MINIMAX, SEED, glm, tagged, without_ends};

/// A call without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// JSON as the model wrote it, as far as it could be kept.
    pub arguments: String,
}

/// The calls in `inner`; `None` if it is something else. `closed`: the mark that ends them was there.
pub fn parse(family: Family, inner: &str, closed: bool, tools: &[Tool]) -> Option<Vec<Call>> {
    let inner = inner.trim();
    let calls = match family {
        Family::Hermes | Family::Llama3 | Family::Granite | Family::Nemotron | Family::Command => objects(inner),
        // The list's beginning is part of the mark: without it, it would be a word of some programs.
        Family::Functools => objects(&format!("[{inner}")),
        Family::Xml => {
            tagged(inner, &FUNCTIONS, tools).or_else(|| without_ends(inner, tools).filter(|_| closed)).or_else(|| objects(inner))
        }
        Family::Seed => tagged(inner, &SEED, tools),
        Family::MiniMax => tagged(inner, &MINIMAX, tools),
        Family::Dsml => tagged(inner, &DSML, tools),
        // Nothing else tells whether there would have been more.
        Family::Glm if closed => objects(inner).or_else(|| glm(inner, tools)),
        Family::Glm => None,
        Family::Mistral => mistral(inner),
        Family::DeepSeek => deepseek(inner),
        Family::Kimi => kimi(inner),
        Family::Gemma | Family::FunctionGemma => gemma(inner),
        Family::ToolCode | Family::Pythonic | Family::Lfm => python(inner).or_else(|| objects(inner)),
        // Its headers say whom a call goes to.
        Family::Harmony => None,
    }?;
    let known = |call: &Call| tools.iter().any(|tool| tool.name == call.name);
    (!calls.is_empty() && calls.iter().all(known)).then_some(calls)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tools::samples::tools;

    fn names_and_arguments(family: Family, inner: &str) -> Vec<(String, Value)> {
        let calls = parse(family, inner, true, &tools()).unwrap_or_else(|| panic!("no calls in {inner}"));
        calls.into_iter().map(|call| (call.name, serde_json::from_str(&call.arguments).expect("JSON"))).collect()
    }

    #[test]
    fn each_way_of_writing_is_understood() {
        let bonn = json!({"city": "Bonn", "days": 2});
        let one = [
            (Family::Hermes, r#"{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}"#),
            (Family::Hermes, r#"{"name": "weather", "arguments": "{\"city\": \"Bonn\", \"days\": 2}"}"#),
            (Family::Xml, "<function=weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>"),
            (Family::Xml, r#"{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}"#),
            (Family::Xml, "<function=weather>\n<parameter=city>\nBonn\n<parameter=days>\n2\n</function>"),
            (Family::Llama3, r#"{"name": "weather", "parameters": {"city": "Bonn", "days": 2}}"#),
            (Family::Pythonic, r#"{"name": "weather", "parameters": {"city": "Bonn", "days": 2}}"#),
            (Family::Mistral, r#"[{"name": "weather", "arguments": {"city": "Bonn", "days": 2}, "id": "abcdefghi"}]"#),
            (Family::Mistral, r#"weather[ARGS]{"city": "Bonn", "days": 2}"#),
            (Family::Mistral, r#"weather[CALL_ID]abcdefghi[ARGS]{"city": "Bonn", "days": 2}"#),
            (
                Family::DeepSeek,
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Bonn\", \"days\": 2}\n```<｜tool▁call▁end｜>",
            ),
            (Family::DeepSeek, "<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Bonn\", \"days\": 2}<｜tool▁call▁end｜>"),
            (
                Family::Glm,
                "weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>",
            ),
            (Family::Glm, r#"{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}"#),
            (Family::Command, r#"{"tool_name": "weather", "parameters": {"city": "Bonn", "days": 2}}"#),
            (Family::ToolCode, "weather(city='Bonn', days=2)"),
        ];
        for (family, inner) in one {
            assert_eq!(names_and_arguments(family, inner), [("weather".to_owned(), bonn.clone())], "{family:?}: {inner}");
        }
    }

    #[test]
    fn what_is_no_call_of_a_known_tool_is_none() {
        for inner in ["", "{", "{\"name\": \"weather\"", "[]", "{\"city\": 1}", r#"{"name": "unknown", "arguments": {}}"#, "42"] {
            assert_eq!(parse(Family::Hermes, inner, true, &tools()), None, "{inner}");
        }
    }
}

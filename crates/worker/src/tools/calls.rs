//! From what stands between a family's marks to calls.

use serde_json::{Map, Value};
use worker_protocol::Tool;

use super::Family;

/// A call without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// JSON as the model wrote it, as far as it could be kept.
    pub arguments: String,
}

/// The calls in `inner`; `None` if it is something else.
pub fn parse(family: Family, inner: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let inner = inner.trim();
    let calls = match family {
        Family::Hermes => objects(inner),
        Family::Xml => xml(inner, tools).or_else(|| objects(inner)),
        Family::Llama3 => objects(inner),
        Family::Mistral => mistral(inner),
        Family::DeepSeek => deepseek(inner),
    }?;
    let known = |call: &Call| tools.iter().any(|tool| tool.name == call.name);
    (!calls.is_empty() && calls.iter().all(known)).then_some(calls)
}

/// One or several objects, or a list of them; between them there may be `;`.
fn objects(inner: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = inner;
    while !rest.is_empty() {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match stream.next()?.ok()? {
            Value::Array(values) => calls.extend(values.into_iter().map(object).collect::<Option<Vec<_>>>()?),
            value => calls.push(object(value)?),
        }
        rest = rest[stream.byte_offset()..].trim_start_matches([';', ' ', '\n']);
    }
    Some(calls)
}

/// `{"name": …, "arguments" or "parameters": {…}}`.
fn object(value: Value) -> Option<Call> {
    let Value::Object(mut object) = value else { return None };
    let Some(Value::String(name)) = object.remove("name") else { return None };
    let arguments = object.remove("arguments").or_else(|| object.remove("parameters")).unwrap_or(Value::Object(Map::new()));
    Some(Call { name, arguments: text(arguments) })
}

/// Some models write the arguments as a text that holds JSON.
fn text(arguments: Value) -> String {
    match arguments {
        Value::String(text) if serde_json::from_str::<Value>(&text).is_ok() => text,
        other => other.to_string(),
    }
}

fn xml(inner: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let (name, body) = inner.strip_prefix("<function=")?.split_once('>')?;
    let name = name.trim();
    let body = body.split("</function>").next()?;
    let schema = tools.iter().find(|tool| tool.name == name).map(|tool| &tool.parameters["properties"]);
    let mut arguments = Map::new();
    for part in body.split("<parameter=").skip(1) {
        let (key, value) = part.split_once('>')?;
        let value = value.split("</parameter>").next()?;
        // One line break on either side belongs to the form.
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let is_text = schema.is_some_and(|schema| schema[key.trim()]["type"] == "string");
        let value = if is_text { value.into() } else { serde_json::from_str(value).unwrap_or_else(|_| value.into()) };
        arguments.insert(key.trim().to_owned(), value);
    }
    Some(vec![Call { name: name.to_owned(), arguments: Value::Object(arguments).to_string() }])
}

fn mistral(inner: &str) -> Option<Vec<Call>> {
    if inner.starts_with(['[', '{']) {
        return objects(inner);
    }
    let calls = inner.split("[TOOL_CALLS]").filter(|call| !call.trim().is_empty()).map(|call| {
        let (name, arguments) = call.split_once("[ARGS]").or_else(|| call.find('{').map(|at| call.split_at(at)))?;
        let name = name.split("[CALL_ID]").next()?.trim();
        let arguments: Value = serde_json::from_str(arguments.trim()).ok()?;
        Some(Call { name: name.to_owned(), arguments: text(arguments) })
    });
    calls.collect()
}

fn deepseek(inner: &str) -> Option<Vec<Call>> {
    let calls = inner.split("<｜tool▁call▁begin｜>").skip(1).map(|call| {
        let call = call.split("<｜tool▁call▁end｜>").next()?;
        let (before, after) = call.split_once("<｜tool▁sep｜>")?;
        // V3 and R1 write `function`, the name and a fenced block; V3.1 the name and the bare object.
        let (name, arguments) = match after.split_once("```json") {
            Some((name, fenced)) => (name, fenced.split("```").next()?),
            None => (before, after),
        };
        let arguments: Value = serde_json::from_str(arguments.trim()).ok()?;
        Some(Call { name: name.trim().to_owned(), arguments: text(arguments) })
    });
    calls.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tools() -> Vec<Tool> {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
        ["weather", "time"].map(|name| Tool { name: name.into(), description: None, parameters: parameters.clone() }).into()
    }

    fn names_and_arguments(family: Family, inner: &str) -> Vec<(String, Value)> {
        let calls = parse(family, inner, &tools()).unwrap_or_else(|| panic!("no calls in {inner}"));
        calls.into_iter().map(|call| (call.name, serde_json::from_str(&call.arguments).expect("JSON"))).collect()
    }

    #[test]
    fn each_family_is_understood() {
        let bonn = json!({"city": "Bonn", "days": 2});
        let one = [
            (Family::Hermes, r#"{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}"#),
            (Family::Hermes, r#"{"name": "weather", "arguments": "{\"city\": \"Bonn\", \"days\": 2}"}"#),
            (Family::Xml, "<function=weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>"),
            (Family::Xml, r#"{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}"#),
            (Family::Llama3, r#"{"name": "weather", "parameters": {"city": "Bonn", "days": 2}}"#),
            (Family::Mistral, r#"[{"name": "weather", "arguments": {"city": "Bonn", "days": 2}, "id": "abcdefghi"}]"#),
            (Family::Mistral, r#"weather[ARGS]{"city": "Bonn", "days": 2}"#),
            (Family::Mistral, r#"weather[CALL_ID]abcdefghi[ARGS]{"city": "Bonn", "days": 2}"#),
            (
                Family::DeepSeek,
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Bonn\", \"days\": 2}\n```<｜tool▁call▁end｜>",
            ),
            (Family::DeepSeek, "<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Bonn\", \"days\": 2}<｜tool▁call▁end｜>"),
        ];
        for (family, inner) in one {
            assert_eq!(names_and_arguments(family, inner), [("weather".to_owned(), bonn.clone())], "{family:?}: {inner}");
        }
    }

    #[test]
    fn several_calls_come_in_order() {
        let several = [
            (Family::Llama3, r#"{"name": "weather", "parameters": {}}; {"name": "time", "parameters": {}}"#),
            (Family::Mistral, r#"[{"name": "weather", "arguments": {}}, {"name": "time", "arguments": {}}]"#),
            (Family::Mistral, "weather[ARGS]{}[TOOL_CALLS]time[ARGS]{}"),
        ];
        for (family, inner) in several {
            let names: Vec<String> = names_and_arguments(family, inner).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["weather", "time"], "{family:?}");
        }
    }

    #[test]
    fn a_parameter_keeps_its_type() {
        let inner = "<function=weather>\n<parameter=city>\n12345\n</parameter>\n</function>";
        assert_eq!(names_and_arguments(Family::Xml, inner)[0].1, json!({"city": "12345"}));
    }

    #[test]
    fn what_is_no_call_of_a_known_tool_is_none() {
        for inner in ["", "{", "{\"name\": \"weather\"", "[]", "{\"city\": 1}", r#"{"name": "unknown", "arguments": {}}"#, "42"] {
            assert_eq!(parse(Family::Hermes, inner, &tools()), None, "{inner}");
        }
    }
}

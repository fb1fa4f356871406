//! Calls as JSON objects.

use serde_json::{Map, Value};

use crate::tools::calls::Call;

/// One or several objects, or a list of them; between them there may be `;`.
pub fn objects(inner: &str) -> Option<Vec<Call>> {
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

/// `{"name": …, "arguments": {…}}`, or with the words of other families for the two.
fn object(value: Value) -> Option<Call> {
    let Value::Object(mut object) = value else { return None };
    let Some(Value::String(name)) = object.remove("name").or_else(|| object.remove("tool_name")) else { return None };
    let arguments = object.remove("arguments").or_else(|| object.remove("parameters"));
    Some(Call { name, arguments: text(arguments.unwrap_or(Value::Object(Map::new()))) })
}

/// Some models write the arguments as a text that holds JSON.
pub fn text(arguments: Value) -> String {
    match arguments {
        Value::String(text) if serde_json::from_str::<Value>(&text).is_ok() => text,
        other => other.to_string(),
    }
}

/// A list of objects, or each call behind its own mark.
pub fn mistral(inner: &str) -> Option<Vec<Call>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(calls: Option<Vec<Call>>) -> Vec<String> {
        calls.unwrap_or_default().into_iter().map(|call| call.name).collect()
    }

    #[test]
    fn several_calls_come_in_order() {
        assert_eq!(names(objects(r#"{"name": "weather", "parameters": {}}; {"name": "time", "parameters": {}}"#)), ["weather", "time"]);
        assert_eq!(names(mistral(r#"[{"name": "weather", "arguments": {}}, {"name": "time", "arguments": {}}]"#)), ["weather", "time"]);
        assert_eq!(names(mistral("weather[ARGS]{}[TOOL_CALLS]time[ARGS]{}")), ["weather", "time"]);
    }

    #[test]
    fn what_stands_beside_the_objects_makes_it_something_else() {
        assert_eq!(objects(r#"{"name": "time"} or so"#), None);
        assert_eq!(objects(&"[".repeat(100_000)), None);
    }
}

//! Where in a JSON schema the reason is that it cannot be used.

use serde_json::Value;

/// Parts tried at most: each is compiled by itself.
const MOST_TRIES: usize = 64;
/// What has parts by name.
const NAMED: [&str; 2] = ["properties", "patternProperties"];
/// What has parts one behind another.
const LISTED: [&str; 4] = ["prefixItems", "anyOf", "oneOf", "allOf"];
/// What is a part itself.
const SINGLE: [&str; 2] = ["items", "additionalProperties"];
/// What parts may need of the whole.
const SHARED: [&str; 3] = ["$schema", "$defs", "definitions"];

/// The path of the innermost part that fails for the same reason as the whole, such as `properties.a.items`; `None` if only
/// the whole does. `fails` says why a schema cannot be used. What fails for another reason may be as it is meant, like a
/// property that must not be there.
pub fn of(schema: &Value, reason: &str, fails: impl Fn(Value) -> Option<String>) -> Option<String> {
    let (mut path, mut part, mut left) = (Vec::new(), schema, MOST_TRIES);
    let is_inner = |(_, (_, inner)): &(usize, (String, &Value))| fails(alone(schema, inner)).as_deref() == Some(reason);
    while let Some((tried, (step, inner))) = parts(part).into_iter().take(left).enumerate().find(is_inner) {
        left -= tried + 1;
        path.push(step);
        part = inner;
    }
    (!path.is_empty()).then(|| path.join("."))
}

/// The parts of a schema that are schemas, with what leads to each.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for key in NAMED {
        let named = schema.get(key).and_then(Value::as_object);
        parts.extend(named.into_iter().flatten().map(|(name, part)| (format!("{key}.{name}"), part)));
    }
    for key in LISTED {
        let listed = schema.get(key).and_then(Value::as_array);
        parts.extend(listed.into_iter().flatten().enumerate().map(|(at, part)| (format!("{key}[{at}]"), part)));
    }
    for key in SINGLE {
        parts.extend(schema.get(key).map(|part| (key.to_owned(), part)));
    }
    parts
}

/// A part as a schema of its own, with what it may refer to.
fn alone(whole: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    if let Some(fields) = part.as_object_mut() {
        for key in SHARED {
            if let Some(shared) = whole.get(key)
                && !fields.contains_key(key)
            {
                fields.insert(key.to_owned(), shared.clone());
            }
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::{MOST_TRIES, of};
    use serde_json::{Map, Value, json};
    use std::cell::Cell;

    fn fails(schema: Value) -> Option<String> {
        schema.to_string().contains("nonsense").then(|| "nonsense".to_owned())
    }

    #[test]
    fn the_innermost_part_is_named() {
        let inner = json!({ "anyOf": [{ "type": "string" }, { "type": "nonsense" }] });
        let schema = json!({ "properties": { "a": { "type": "string" }, "b": { "type": "array", "items": inner } } });
        assert_eq!(of(&schema, "nonsense", fails).as_deref(), Some("properties.b.items.anyOf[1]"));
        assert_eq!(of(&schema, "another reason", fails), None);
        assert_eq!(of(&json!({ "type": "nonsense", "items": {} }), "nonsense", fails), None, "it is the whole");
        assert_eq!(of(&json!(true), "nonsense", fails), None);
    }

    #[test]
    fn a_part_has_what_it_refers_to() {
        let schema = json!({ "$defs": { "x": { "type": "odd" } }, "properties": { "a": { "$ref": "#/$defs/x" }, "b": {} } });
        let fails = |part: Value| (part["$ref"].is_string() && part["$defs"]["x"]["type"] == "odd").then(|| "odd".to_owned());
        assert_eq!(of(&schema, "odd", fails).as_deref(), Some("properties.a"));
    }

    #[test]
    fn a_search_has_an_end() {
        let many: Map<String, Value> = (0..1_000).map(|n| (n.to_string(), json!({}))).collect();
        let tried = Cell::new(0);
        let fails = |_| {
            tried.set(tried.get() + 1);
            None
        };
        assert_eq!((of(&json!({ "properties": many }), "x", fails), tried.get()), (None, MOST_TRIES));
    }
}

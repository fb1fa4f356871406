//! Schemas in words and tables.

use super::html::{code, prose, row, table};
use serde_json::{Map, Value};

/// Schemas that consist of others, with the word between these.
const COMPOSED: [(&str, &str); 3] = [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")];

/// A schema in a few words. Those with a name are linked; the whole page has them all.
pub fn words(schema: &Value) -> String {
    if let Some(name) = name(schema) {
        return format!("<a href=\"/docs#schema-{name}\">{name}</a>");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| code(value.as_str().unwrap_or_default())).collect::<Vec<_>>().join(" or ");
    }
    for (field, word) in COMPOSED {
        if let Some(parts) = schema[field].as_array() {
            return parts.iter().map(words).collect::<Vec<_>>().join(word);
        }
    }
    match &schema["type"] {
        Value::String(kind) => simple(kind, schema),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).map(|kind| simple(kind, schema)).collect::<Vec<_>>().join(" or "),
        _ => "anything".into(),
    }
}

fn simple(kind: &str, schema: &Value) -> String {
    match kind {
        "array" => format!("list of {}", words(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => format!("object of {}", words(&schema["additionalProperties"])),
        other => other.to_owned(),
    }
}

/// The name of a schema that is only referred to.
fn name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// What a schema consists of: its fields, or its parts with theirs.
pub fn shape(label: &str, schema: &Value) -> String {
    if let Some(fields) = schema["properties"].as_object() {
        return table(label, &["Field", "Type", "", "Meaning"], &rows(fields, &schema["required"]));
    }
    for (field, word) in COMPOSED {
        if let Some(parts) = schema[field].as_array() {
            return parts.iter().map(|part| shape(label, part)).collect::<Vec<_>>().join(&format!("<p>{}</p>", word.trim()));
        }
    }
    format!("<p>{}</p>", words(schema))
}

/// Required fields first.
fn rows(fields: &Map<String, Value>, required: &Value) -> String {
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| (!is_required(name), *name));
    let told = |(name, schema): (&String, &Value)| {
        let needed = if is_required(name) { "required" } else { "optional" };
        row(&code(name), &[("type", &words(schema)), (needed, needed), ("meaning", &prose(meaning(schema)))])
    };
    fields.into_iter().map(told).collect()
}

/// The description, which stands beside the reference where a field may be null.
fn meaning(schema: &Value) -> &str {
    let own = schema["description"].as_str();
    own.or_else(|| schema["oneOf"].as_array()?.iter().find_map(|part| part["description"].as_str())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{shape, words};
    use serde_json::json;

    #[test]
    fn types_are_told_in_words() {
        let link = "<a href=\"/docs#schema-Usage\">Usage</a>";
        let cases = [
            (json!({ "type": "string" }), "string"),
            (json!({ "type": ["string", "null"] }), "string or null"),
            (json!({ "$ref": "#/components/schemas/Usage" }), link),
            (json!({ "type": "array", "items": { "type": "number" } }), "list of number"),
            (json!({ "type": "object", "additionalProperties": { "type": "boolean" } }), "object of boolean"),
            (json!({ "type": "string", "enum": ["a", "b"] }), "<code>a</code> or <code>b</code>"),
            (json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": {} }] }), "string or list of anything"),
            (json!({ "description": "Whatever." }), "anything"),
        ];
        for (schema, expected) in cases {
            assert_eq!(words(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn required_fields_come_first() {
        let field = json!({ "type": "string", "description": "A <b>." });
        let schema = json!({ "type": "object", "properties": { "a": field, "z": field }, "required": ["z"] });
        let html = shape("Thing", &schema);
        let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text} is missing in {html}"));
        assert!(at("<code>z</code>") < at("<code>a</code>") && at(">required<") < at(">optional<"));
        assert!(html.contains("A &lt;b&gt;.") && html.contains("aria-label=\"Thing\""));
    }
}

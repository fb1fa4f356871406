//! Calls with each argument between tags, whose values are JSON or, where the schema wants a text, the text itself.

use serde_json::{Map, Value};
use worker_protocol::Tool;

use super::{behind, up_to};
use crate::tools::calls::Call;

/// The tags of a family. What comes between an opening one and its `>` is a name, perhaps in quotes.
pub struct Tags {
    call: &'static str,
    call_end: &'static str,
    argument: &'static str,
    argument_end: &'static str,
    /// One line break on either side of a value belongs to the form.
    lines: bool,
}

pub const FUNCTIONS: Tags =
    Tags { call: "<function=", call_end: "</function>", argument: "<parameter=", argument_end: "</parameter>", lines: true };
pub const SEED: Tags = Tags { lines: false, ..FUNCTIONS };
pub const MINIMAX: Tags =
    Tags { call: "<invoke name=", call_end: "</invoke>", argument: "<parameter name=", argument_end: "</parameter>", lines: false };
pub const DSML: Tags = Tags {
    call: "<｜DSML｜invoke name=",
    call_end: "</｜DSML｜invoke>",
    argument: "<｜DSML｜parameter name=",
    argument_end: "</｜DSML｜parameter>",
    lines: false,
};

/// One call or several; each has its end, so what is cut off is none.
pub fn tagged(inner: &str, tags: &Tags, tools: &[Tool]) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        let (head, body) = rest.strip_prefix(tags.call)?.split_once('>')?;
        let (name, _) = named(head);
        let (arguments, after) = arguments(body.trim_start(), tags, schema(tools, name))?;
        calls.push(Call { name: name.to_owned(), arguments: Value::Object(arguments).to_string() });
        rest = after.trim_start();
    }
    Some(calls)
}

/// The arguments up to the call's end, and what follows it.
fn arguments<'a>(body: &'a str, tags: &Tags, schema: Option<&Value>) -> Option<(Map<String, Value>, &'a str)> {
    let mut arguments = Map::new();
    let mut rest = body;
    loop {
        if let Some(after) = rest.strip_prefix(tags.call_end) {
            return Some((arguments, after));
        }
        let (head, text) = rest.strip_prefix(tags.argument)?.split_once('>')?;
        let (name, attributes) = named(head);
        let ends = |after: &str| after.starts_with(tags.argument) || after.starts_with(tags.call_end);
        let (value, after) = ended(text, (tags.argument, tags.argument_end), ends)?;
        let value = if tags.lines { without_breaks(value) } else { value };
        // DeepSeek says itself what is a text.
        let value = if attributes.contains("string=\"true\"") { value.into() } else { typed(value, property(schema, name)) };
        arguments.insert(name.to_owned(), value);
        rest = after;
    }
}

/// The calls of [`FUNCTIONS`] by a model that forgets ends: an argument ends with the next one as well, and a call with
/// the next call. Only where the mark behind them says that they are complete.
pub fn without_ends(inner: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let calls = behind(inner, FUNCTIONS.call)?.map(|text| {
        let (name, body) = text.split_once('>')?;
        let (name, _) = named(name);
        let schema = schema(tools, name);
        let arguments = behind(up_to(body, FUNCTIONS.call_end)?, FUNCTIONS.argument)?.map(|text| {
            let (key, value) = text.split_once('>')?;
            let (key, _) = named(key);
            let value = without_breaks(up_to(value, FUNCTIONS.argument_end)?);
            Some((key.to_owned(), typed(value, property(schema, key))))
        });
        let arguments: Map<String, Value> = arguments.collect::<Option<_>>()?;
        Some(Call { name: name.to_owned(), arguments: Value::Object(arguments).to_string() })
    });
    calls.collect()
}

/// A name, keys and values: `name<arg_key>key</arg_key><arg_value>value</arg_value>`.
pub fn glm(inner: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let (name, mut rest) = inner.find("<arg_key>").map_or((inner, ""), |at| inner.split_at(at));
    let name = name.trim();
    let schema = schema(tools, name);
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, after) = rest.strip_prefix("<arg_key>")?.split_once("</arg_key>")?;
        let text = after.trim_start().strip_prefix("<arg_value>")?;
        let ends = |after: &str| after.is_empty() || after.starts_with("<arg_key>");
        let (value, after) = ended(text, ("<arg_value>", "</arg_value>"), ends)?;
        let key = key.trim();
        arguments.insert(key.to_owned(), typed(value, property(schema, key)));
        rest = after;
    }
    Some(vec![Call { name: name.to_owned(), arguments: Value::Object(arguments).to_string() }])
}

/// A name and what stands behind it: `"name" string="true"` or the bare name.
fn named(head: &str) -> (&str, &str) {
    let head = head.trim();
    head.strip_prefix('"').and_then(|quoted| quoted.split_once('"')).unwrap_or((head, ""))
}

/// A value and what follows its end. A value may hold the marks around it, so it ends where what follows fits. If one
/// more begins in it than ends, its own end may be missing, and there is no telling.
fn ended<'a>(text: &'a str, (open, close): (&str, &str), fits: impl Fn(&str) -> bool) -> Option<(&'a str, &'a str)> {
    let (value, after) = text.match_indices(close).find_map(|(at, mark)| {
        let after = text[at + mark.len()..].trim_start();
        fits(after).then(|| (&text[..at], after))
    })?;
    (value.matches(open).count() <= value.matches(close).count()).then_some((value, after))
}

fn without_breaks(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}

fn schema<'a>(tools: &'a [Tool], name: &str) -> Option<&'a Value> {
    tools.iter().find(|tool| tool.name == name).map(|tool| &tool.parameters["properties"])
}

fn property<'a>(properties: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    properties.map(|properties| &properties[name]["type"])
}

/// A value of that type: what shall be a text stays one, even if it looks like a number.
fn typed(text: &str, kind: Option<&Value>) -> Value {
    let may_be = |name: &str| {
        let is = |kind: &Value| kind.as_str() == Some(name);
        kind.is_some_and(|kind| is(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is)))
    };
    if may_be("string") && !(text == "null" && may_be("null")) {
        return text.into();
    }
    match text.trim() {
        // As Python writes them.
        "True" if may_be("boolean") => true.into(),
        "False" if may_be("boolean") => false.into(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Tool> {
        let properties = json!({
            "text": {"type": "string"}, "count": {"type": "integer"}, "loud": {"type": "boolean"}, "note": {"type": ["string", "null"]}
        });
        vec![Tool { name: "say".into(), description: None, parameters: json!({"type": "object", "properties": properties}) }]
    }

    fn arguments(calls: Option<Vec<Call>>) -> Value {
        serde_json::from_str(&calls.expect("a call").remove(0).arguments).expect("JSON")
    }

    fn function(key: &str, value: &str) -> Option<Vec<Call>> {
        tagged(&format!("<function=say>\n<parameter={key}>\n{value}\n</parameter>\n</function>"), &FUNCTIONS, &tools())
    }

    #[test]
    fn a_value_has_the_type_that_the_schema_wants() {
        assert_eq!(arguments(function("text", "12345")), json!({"text": "12345"}));
        assert_eq!(arguments(function("count", "12345")), json!({"count": 12345}));
        assert_eq!(arguments(function("loud", "True")), json!({"loud": true}));
        assert_eq!(arguments(function("note", "null")), json!({"note": null}));
        assert_eq!(arguments(function("note", "none")), json!({"note": "none"}));
        assert_eq!(arguments(function("other", "{\"a\": [1]}")), json!({"other": {"a": [1]}}));
        assert_eq!(arguments(function("other", "a, b")), json!({"other": "a, b"}));
    }

    #[test]
    fn a_value_may_hold_the_mark_that_ends_it() {
        assert_eq!(arguments(function("text", "a </parameter> b")), json!({"text": "a </parameter> b"}));
        let call = "say<arg_key>text</arg_key><arg_value>a </arg_value> b</arg_value>";
        assert_eq!(arguments(glm(call, &tools())), json!({"text": "a </arg_value> b"}));
    }

    #[test]
    fn where_an_end_is_missing_no_value_swallows_the_next() {
        for call in [
            "<function=say>\n<parameter=text>\na\n<parameter=count>\n2\n</parameter>\n</function>",
            "<function=say>\n<parameter=text>\na\n</parameter>\n<parameter=count>\n2\n</function>",
            "<function=say>\n<parameter=text>\na\n</parameter>\n<parameter=count>\n2\n</parameter>\n",
        ] {
            assert_eq!(tagged(call, &FUNCTIONS, &tools()), None, "{call}");
            assert_eq!(arguments(without_ends(call, &tools())), json!({"text": "a", "count": 2}), "{call}");
        }
        for call in ["", "so <function=say>", "<function=say", "<function=say>so", "<function=say></function> so"] {
            assert_eq!(without_ends(call, &tools()).filter(|calls| !calls.is_empty()), None, "{call}");
        }
        let call = "say<arg_key>text</arg_key><arg_value>a<arg_key>count</arg_key><arg_value>2</arg_value>";
        assert_eq!(glm(call, &tools()), None);
    }

    #[test]
    fn white_space_in_a_value_is_kept_where_it_is_no_form() {
        let say = |value: &str| {
            tagged(&format!("<invoke name=\"say\">\n<parameter name=\"text\">{value}</parameter>\n</invoke>"), &MINIMAX, &tools())
        };
        assert_eq!(arguments(say("\n  a\n")), json!({"text": "\n  a\n"}));
        assert_eq!(arguments(function("text", "\n  a\n")), json!({"text": "\n  a\n"}));
    }

    #[test]
    fn deepseek_says_itself_what_is_a_text() {
        let argument = |name: &str, kind: &str, value: &str| {
            format!("<｜DSML｜parameter name=\"{name}\" string=\"{kind}\">{value}</｜DSML｜parameter>\n")
        };
        let all = argument("other", "true", "1") + &argument("more", "false", "1");
        let call = format!("<｜DSML｜invoke name=\"say\">\n{all}</｜DSML｜invoke>");
        assert_eq!(arguments(tagged(&call, &DSML, &tools())), json!({"other": "1", "more": 1}));
    }

    #[test]
    fn what_lacks_an_end_or_has_anything_beside_it_is_no_call() {
        for inner in [
            "<function=say",
            "<function=say>",
            "<function=say><parameter=text>a",
            "<function=say><parameter=text>a</parameter>",
            "<function=say>so</function>",
            "<function=say></function> so",
        ] {
            assert_eq!(tagged(inner, &FUNCTIONS, &tools()), None, "{inner}");
        }
        assert_eq!(glm("say<arg_key>text</arg_key>", &tools()), None);
        assert_eq!(glm("say<arg_key>text</arg_key><arg_value>a</arg_value> so", &tools()), None);
    }
}

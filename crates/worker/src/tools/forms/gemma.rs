//! Gemma's own way: `call:name{key:<|"|>text<|"|>,other:1}`. Keys are bare, texts stand between marks of their own.

use serde_json::{Map, Value};

use super::{DEPTH, LastComma, items};
use crate::tools::calls::Call;

/// What a text stands between: Gemma 4's mark and FunctionGemma's.
const QUOTES: [&str; 2] = ["<|\"|>", "<escape>"];

/// The one call in `inner`.
pub fn gemma(inner: &str) -> Option<Vec<Call>> {
    let call = inner.strip_prefix("call:")?;
    let (name, arguments) = call.split_at(call.find('{')?);
    let (arguments, rest) = object(arguments, DEPTH)?;
    rest.trim().is_empty().then(|| vec![Call { name: name.trim().to_owned(), arguments: arguments.to_string() }])
}

fn object(text: &str, depth: usize) -> Option<(Value, &str)> {
    let mut object = Map::new();
    let after = items(text.strip_prefix('{')?, '}', LastComma::Wrong, |rest| {
        let (key, after) = match quoted(rest) {
            Some((key, after)) => (key, after.trim_start().strip_prefix(':')?),
            None => {
                let (key, after) = rest.split_once(':')?;
                (Some(key.trim()).filter(|key| !key.is_empty() && !key.contains(['{', '}', '[', ']', ',', '<']))?, after)
            }
        };
        let (value, after) = value(after, depth)?;
        object.insert(key.to_owned(), value);
        Some(after)
    })?;
    Some((Value::Object(object), after))
}

fn list(text: &str, depth: usize) -> Option<(Value, &str)> {
    let mut list = Vec::new();
    let after = items(text.strip_prefix('[')?, ']', LastComma::Wrong, |rest| {
        let (value, after) = value(rest, depth)?;
        list.push(value);
        Some(after)
    })?;
    Some((Value::Array(list), after))
}

fn value(text: &str, depth: usize) -> Option<(Value, &str)> {
    let text = text.trim_start();
    let depth = depth.checked_sub(1)?;
    if let Some((text, after)) = quoted(text) {
        return Some((text.into(), after));
    }
    if text.starts_with('{') {
        return object(text, depth);
    }
    if text.starts_with('[') {
        return list(text, depth);
    }
    let (bare, after) = text.split_at(text.find([',', '}', ']'])?);
    let value = match bare.trim() {
        "" => return None,
        "none" | "None" | "nil" => Value::Null,
        // A text whose mark is missing, unless it is the beginning of one.
        bare if !bare.contains('<') => serde_json::from_str(bare).unwrap_or_else(|_| bare.into()),
        _ => return None,
    };
    Some((value, after))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    QUOTES.iter().find_map(|quote| text.strip_prefix(*quote)?.split_once(*quote))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(inner: &str) -> Option<Value> {
        gemma(inner).map(|mut calls| serde_json::from_str(&calls.remove(0).arguments).expect("JSON"))
    }

    #[test]
    fn values_of_every_type_are_understood() {
        let call = "call:f{text:<|\"|>a, \"b\" } {:]\n<|\"|>,number:-1.5e2,yes:true,no:false,nothing:null,list:[1,<|\"|>x<|\"|>,[]],object:{a:{},b:2}}";
        let expected = json!({
            "text": "a, \"b\" } {:]\n", "number": -150.0, "yes": true, "no": false, "nothing": null,
            "list": [1, "x", []], "object": {"a": {}, "b": 2}
        });
        assert_eq!(arguments(call), Some(expected));
        assert_eq!(arguments("call:f{}"), Some(json!({})));
        assert_eq!(arguments("call:f{city:<escape>Bonn<escape>, days: 2}"), Some(json!({"city": "Bonn", "days": 2})));
        assert_eq!(arguments("call:f{unit:celsius}"), Some(json!({"unit": "celsius"})));
    }

    #[test]
    fn what_is_not_written_so_is_no_call() {
        for inner in [
            "f{}",
            "call:f",
            "call:f{",
            "call:f{a}",
            "call:f{a:}",
            "call:f{a:1",
            "call:f{a:1}}",
            "call:f{a:<|\"|>x}",
            "call:f{a:1,}",
            "call:f{a:[1}",
        ] {
            assert_eq!(gemma(inner), None, "{inner}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        assert_eq!(gemma(&format!("call:f{{a:{}", "[".repeat(200_000))), None);
        assert_eq!(gemma(&format!("call:f{{a:{}", "{a:".repeat(200_000))), None);
    }
}

//! Calls as Python has them: `[name(key="value", other=[1, None])]`, or one behind another without the list.

use serde_json::{Map, Number, Value};

use super::{DEPTH, LastComma, items};
use crate::tools::calls::Call;

/// The calls in `inner`, whose arguments must have names.
pub fn python(inner: &str) -> Option<Vec<Call>> {
    let inner = inner.trim();
    let (mut rest, listed) = inner.strip_prefix('[').map_or((inner, false), |list| (list.trim_start(), true));
    let mut calls = Vec::new();
    loop {
        let (call, after) = call(rest)?;
        calls.push(call);
        let after = after.trim_start();
        match after.strip_prefix(if listed { ',' } else { ';' }).map(str::trim_start) {
            Some(more) => rest = more,
            None if listed => return after.strip_prefix(']').filter(|after| after.is_empty()).map(|_| calls),
            None => rest = after,
        }
        if rest.is_empty() {
            return (!listed).then_some(calls);
        }
    }
}

fn call(text: &str) -> Option<(Call, &str)> {
    let (name, after) = name(text)?;
    let mut arguments = Map::new();
    let after = items(after.trim_start().strip_prefix('(')?, ')', LastComma::Allowed, |rest| {
        let (key, after) = self::name(rest)?;
        let (value, after) = value(after.trim_start().strip_prefix('=')?, DEPTH)?;
        arguments.insert(key.to_owned(), value);
        Some(after)
    })?;
    Some((Call { name: name.to_owned(), arguments: Value::Object(arguments).to_string() }, after))
}

/// A word as names of tools and arguments are.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.')).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value(text: &str, depth: usize) -> Option<(Value, &str)> {
    let text = text.trim_start();
    let depth = depth.checked_sub(1)?;
    match text.chars().next()? {
        '\'' | '"' => string(text).map(|(text, after)| (text.into(), after)),
        '[' => list(text.strip_prefix('[')?, ']', depth),
        '(' => list(text.strip_prefix('(')?, ')', depth),
        '{' => object(text.strip_prefix('{')?, depth),
        _ => {
            let end = text.find(|c: char| matches!(c, ',' | ')' | ']' | '}' | ':') || c.is_whitespace())?;
            let (word, after) = text.split_at(end);
            let value = match word {
                "None" | "null" => Value::Null,
                "True" | "true" => true.into(),
                "False" | "false" => false.into(),
                number => Value::Number(serde_json::from_str::<Number>(number.strip_prefix('+').unwrap_or(number)).ok()?),
            };
            Some((value, after))
        }
    }
}

fn list(text: &str, end: char, depth: usize) -> Option<(Value, &str)> {
    let mut list = Vec::new();
    let after = items(text, end, LastComma::Allowed, |rest| {
        let (value, after) = value(rest, depth)?;
        list.push(value);
        Some(after)
    })?;
    Some((Value::Array(list), after))
}

fn object(text: &str, depth: usize) -> Option<(Value, &str)> {
    let mut object = Map::new();
    let after = items(text, '}', LastComma::Allowed, |rest| {
        let (key, after) = string(rest)?;
        let (value, after) = value(after.trim_start().strip_prefix(':')?, depth)?;
        object.insert(key, value);
        Some(after)
    })?;
    Some((Value::Object(object), after))
}

/// A text in one or three quotes of either kind.
fn string(text: &str) -> Option<(String, &str)> {
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let quote = quotes.into_iter().find(|quote| text.starts_with(quote))?;
    let mut rest = text.strip_prefix(quote)?;
    let mut string = String::new();
    loop {
        if let Some(after) = rest.strip_prefix(quote) {
            return Some((string, after));
        }
        let plain = rest.find(['\\', '\'', '"'])?;
        let (before, after) = rest.split_at(plain);
        string.push_str(before);
        rest = match after.strip_prefix('\\') {
            Some(escaped) => escape(escaped, &mut string)?,
            None if after.starts_with(quote) => after,
            // A quote of the other kind, or fewer than end the text.
            None => {
                let (other, after) = after.split_at(1);
                string.push_str(other);
                after
            }
        };
    }
}

/// Puts down what a backslash before `text` means, and gives what follows.
fn escape<'a>(text: &'a str, string: &mut String) -> Option<&'a str> {
    let mut letters = text.chars();
    let letter = letters.next()?;
    let after = letters.as_str();
    let digits = match letter {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        '\n' => return Some(after),
        _ => 0,
    };
    if digits > 0 {
        let (code, after) = after.split_at_checked(digits)?;
        let hexadecimal = code.bytes().all(|byte| byte.is_ascii_hexdigit());
        string.push(char::from_u32(u32::from_str_radix(code, 16).ok().filter(|_| hexadecimal)?)?);
        return Some(after);
    }
    match letter {
        'n' => string.push('\n'),
        'r' => string.push('\r'),
        't' => string.push('\t'),
        'b' => string.push('\u{8}'),
        'f' => string.push('\u{c}'),
        '\\' | '\'' | '"' => string.push(letter),
        other => string.extend(['\\', other]),
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(inner: &str) -> Option<Value> {
        python(inner).map(|mut calls| serde_json::from_str(&calls.remove(0).arguments).expect("JSON"))
    }

    #[test]
    fn values_of_every_type_are_understood() {
        let call = r#"[f(a='it\'s', b="\u00fc\x41\n\d", c=-1.5, d=True, e=None, f=[1, 'x', ()], g={"a": {}, 'b': 2}, h="""a "b" c""",)]"#;
        let expected = json!({
            "a": "it's", "b": "üA\n\\d", "c": -1.5, "d": true, "e": null, "f": [1, "x", []], "g": {"a": {}, "b": 2}, "h": "a \"b\" c"
        });
        assert_eq!(arguments(call), Some(expected));
        assert_eq!(arguments("f()"), Some(json!({})));
        assert_eq!(arguments("f(a='', b=\"a ] ) ,\")"), Some(json!({"a": "", "b": "a ] ) ,"})));
    }

    #[test]
    fn several_calls_come_in_order() {
        for inner in ["[f(), g()]", "f()\ng()", "f(); g()", "f();\ng();"] {
            let names: Vec<String> = python(inner).unwrap_or_default().into_iter().map(|call| call.name).collect();
            assert_eq!(names, ["f", "g"], "{inner}");
        }
    }

    #[test]
    fn what_is_not_written_so_is_no_call() {
        for inner in [
            "",
            "[]",
            "[f()",
            "[f(),]",
            "[f()] so",
            "f() so",
            "f(1)",
            "f(a=)",
            "f(a=b)",
            "f(a=1",
            "f(a='x)",
            "f(a='\\",
            "f(a='\\u12')",
            "f(a=1.)",
            "f(a=[1)",
            "[1]",
        ] {
            assert_eq!(python(inner), None, "{inner}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        assert_eq!(python(&format!("f(a={}", "[".repeat(200_000))), None);
        assert_eq!(python(&format!("f(a={}", "{'a':".repeat(200_000))), None);
    }
}

//! Calls between marks of their own inside of a section.

use serde_json::Value;

use super::objects::text;
use super::{behind, up_to};
use crate::tools::calls::Call;

/// What stands between pairs of these marks, whose ends may be missing. `None` if there is anything else.
fn sections<'a>(inner: &'a str, open: &'static str, close: &str) -> Option<Vec<&'a str>> {
    behind(inner, open)?.map(|section| up_to(section, close)).collect()
}

/// DeepSeek V3 and R1 write `function`, the name and a fenced block; V3.1 the name and the bare object.
pub fn deepseek(inner: &str) -> Option<Vec<Call>> {
    let calls = sections(inner, "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")?.into_iter().map(|call| {
        let (before, after) = call.split_once("<｜tool▁sep｜>")?;
        let (name, arguments) = match after.split_once("```json") {
            // A bare object may hold such a block.
            Some((name, fenced)) if !name.trim_start().starts_with('{') => (name, fenced.trim_end().strip_suffix("```").unwrap_or(fenced)),
            _ => (before, after),
        };
        called(name, arguments)
    });
    calls.collect()
}

/// A call's id is its name with `functions.` before and its number behind it.
pub fn kimi(inner: &str) -> Option<Vec<Call>> {
    let calls = sections(inner, "<|tool_call_begin|>", "<|tool_call_end|>")?.into_iter().map(|call| {
        let (id, arguments) = call.split_once("<|tool_call_argument_begin|>")?;
        let id = id.trim();
        let name = id.rsplit_once(':').map_or(id, |(name, _)| name);
        called(name.strip_prefix("functions.").unwrap_or(name), arguments)
    });
    calls.collect()
}

/// Of a number, the end alone would not tell that it is complete.
fn called(name: &str, arguments: &str) -> Option<Call> {
    let arguments: Value = serde_json::from_str(arguments.trim()).ok()?;
    (!arguments.is_number()).then(|| Call { name: name.trim().to_owned(), arguments: text(arguments) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_calls_makes_it_something_else() {
        let call = "<|tool_call_begin|>functions.time:0<|tool_call_argument_begin|>{}<|tool_call_end|>";
        assert_eq!(kimi(&format!("{call}\n{call}")).map(|calls| calls.len()), Some(2));
        assert_eq!(kimi(&format!("{call} and {call}")), None);
        assert_eq!(kimi(&format!("first {call}")), None);
    }

    #[test]
    fn an_id_without_its_form_is_the_name() {
        let name = |id: &str| Some(kimi(&format!("<|tool_call_begin|>{id}<|tool_call_argument_begin|>{{}}"))?.remove(0).name);
        assert_eq!(
            ["functions.time:12", "time:0", "functions.time", " time "].map(name),
            [Some("time"); 4].map(|name| name.map(str::to_owned))
        );
    }

    #[test]
    fn an_end_that_is_missing_is_where_the_next_call_begins() {
        let call = "<｜tool▁call▁begin｜>time<｜tool▁sep｜>{}\n";
        assert_eq!(deepseek(&call.repeat(2)).map(|calls| calls.len()), Some(2));
    }

    #[test]
    fn a_fence_inside_of_the_arguments_does_not_end_them() {
        let expected = Some(vec![Call { name: "note".into(), arguments: "{\"text\":\"```json\"}".into() }]);
        let fenced = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>note\n```json\n{\"text\": \"```json\"}\n```<｜tool▁call▁end｜>";
        assert_eq!(deepseek(fenced), expected);
        let bare = "<｜tool▁call▁begin｜>note<｜tool▁sep｜>{\"text\": \"```json\"}<｜tool▁call▁end｜>";
        assert_eq!(deepseek(bare), expected);
    }
}

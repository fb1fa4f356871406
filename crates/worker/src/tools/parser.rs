//! Splits an answer, while it is written, into text, thoughts and calls.

use rand::RngExt;
use rand::distr::Alphanumeric;
use worker_protocol::{Tool, ToolCall};

use super::calls::Call;
use super::channels::Channels;
use super::family::Family;
use super::marks::Marks;
use super::thoughts::Thoughts;
use crate::text::longest_overlap;

/// White space around marks is form, but not if there is more of it than that: what is held back stays short.
pub const LONGEST_FORM: usize = 512;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Reasoning(String),
    Call(ToolCall),
}

/// Reads an answer by steps, each of which takes something of what is held.
pub trait Reader: Send {
    /// Takes some more text.
    fn hold(&mut self, text: &str);

    /// One transition; false if more text is needed.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool;

    /// The model is thinking, so that the token it chooses next is one of its thoughts.
    fn thinks(&self) -> bool;

    /// What was held back, at the end of the answer.
    fn finish(&mut self) -> Vec<Part>;

    /// What is clear after some more text.
    fn push(&mut self, text: &str) -> Vec<Part> {
        self.hold(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }
}

/// Text that may turn out to be a mark is held back until it is clear; what only looks like a call stays text. Each
/// piece is looked at once, however long the answer is.
///
/// For an answer of a model that calls `tools` in the words of `family`. `thoughts`: it may think so; `began`: the
/// prompt has begun its thoughts already.
pub fn parser(family: Family, tools: Vec<Tool>, thoughts: Option<&'static Thoughts>, began: bool) -> Box<dyn Reader> {
    match family {
        Family::Harmony => Box::new(Channels::new(tools)),
        _ => Box::new(Marks::new(Some(family).filter(|_| !tools.is_empty()), tools, thoughts, began)),
    }
}

pub fn say(parts: &mut Vec<Part>, part: impl FnOnce(String) -> Part, text: String) {
    if !text.is_empty() {
        parts.push(part(text));
    }
}

/// The call with an id that suits the template.
pub fn with_id(family: Family, call: Call) -> Part {
    let random: String = rand::rng().sample_iter(Alphanumeric).take(family.id_length()).map(char::from).collect();
    let id = if family == Family::Mistral { random } else { format!("call_{random}") };
    Part::Call(ToolCall { id, name: call.name, arguments: call.arguments })
}

/// Where the first of these marks is, and which it is.
pub fn first<'a>(text: &str, marks: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    marks.filter_map(|mark| text.find(mark).map(|at| (at, mark))).min_by_key(|(at, _)| *at)
}

/// Bytes at the end of `text` that may become one of these marks.
pub fn beginning<'a>(text: &str, marks: impl Iterator<Item = &'a str>) -> usize {
    marks.map(|mark| longest_overlap(text, mark)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_suit_the_template() {
        let id = |family| match with_id(family, Call { name: "time".into(), arguments: "{}".into() }) {
            Part::Call(call) => call.id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id(Family::Mistral).len(), 9);
        assert!(id(Family::Hermes).starts_with("call_") && id(Family::Hermes) != id(Family::Hermes));
    }
}

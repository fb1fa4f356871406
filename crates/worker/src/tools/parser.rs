//! Splits an answer, while it is written, into text, thoughts and calls.

use rand::RngExt;
use rand::distr::Alphanumeric;
use worker_protocol::{Tool, ToolCall};

use super::Family;
use super::calls::parse;
use crate::text::longest_overlap;

const THINK: &str = "<think>";
const THOUGHT: &str = "</think>";

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Reasoning(String),
    Call(ToolCall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Beginning,
    Thinking,
    Text,
    Call,
}

/// See the module. Text that may turn out to be a mark is held back until it is clear.
pub struct Parser {
    /// How calls are written; `None`: there are no tools.
    family: Option<Family>,
    tools: Vec<Tool>,
    /// The model may think.
    thinks: bool,
    /// It has.
    thought: bool,
    state: State,
    held: String,
    calls: usize,
}

impl Parser {
    /// For an answer of a model that calls `tools` in the words of `family`. `thinks`: it may think first; `began`: the
    /// prompt has begun its thoughts already.
    pub fn new(family: Option<Family>, tools: Vec<Tool>, thinks: bool, began: bool) -> Self {
        let state = if began { State::Thinking } else { State::Beginning };
        Self { family: family.filter(|_| !tools.is_empty()), tools, thinks, thought: false, state, held: String::new(), calls: 0 }
    }

    /// What is clear after some more text.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// What was held back, at the end of the answer.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking => say(&mut parts, Part::Reasoning, rest),
            State::Call => self.call(&rest, "", &mut parts),
            State::Beginning | State::Text => self.text(&mut parts, rest),
        }
        parts
    }

    /// One transition; false if more text is needed.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Beginning => self.begin(),
            State::Thinking => self.think(parts),
            State::Text => self.read(parts),
            State::Call => self.close(parts),
        }
    }

    fn begin(&mut self) -> bool {
        if self.thought {
            // What stands between thoughts and answer is form.
            self.held = self.held.trim_start().to_owned();
        }
        let begun = self.held.trim_start();
        if begun.is_empty() || (self.thinks && begun.len() < THINK.len() && THINK.starts_with(begun)) {
            return false;
        }
        if self.thinks && begun.starts_with(THINK) {
            self.held = begun[THINK.len()..].to_owned();
            self.state = State::Thinking;
        } else if self.family == Some(Family::Llama3) && begun.starts_with('{') {
            self.state = State::Call;
        } else {
            self.state = State::Text;
        }
        true
    }

    fn think(&mut self, parts: &mut Vec<Part>) -> bool {
        if let Some(at) = self.held.find(THOUGHT) {
            let rest = self.held.split_off(at);
            say(parts, Part::Reasoning, std::mem::replace(&mut self.held, rest[THOUGHT.len()..].to_owned()));
            self.thinks = false;
            self.thought = true;
            self.state = State::Beginning;
            return true;
        }
        let keep = longest_overlap(&self.held, THOUGHT);
        let rest = self.held.split_off(self.held.len() - keep);
        say(parts, Part::Reasoning, std::mem::replace(&mut self.held, rest));
        false
    }

    fn read(&mut self, parts: &mut Vec<Part>) -> bool {
        let Some(family) = self.family else {
            let text = std::mem::take(&mut self.held);
            say(parts, Part::Text, text);
            return false;
        };
        let open = family.open();
        if let Some(at) = self.held.find(open) {
            let rest = self.held.split_off(at);
            let text = std::mem::replace(&mut self.held, rest[open.len()..].to_owned());
            self.text(parts, text);
            self.state = State::Call;
            return true;
        }
        let mut keep = longest_overlap(&self.held, open);
        if self.calls > 0 && self.held.trim().is_empty() {
            // White space between two calls is nobody's text.
            keep = self.held.len();
        }
        let rest = self.held.split_off(self.held.len() - keep);
        let text = std::mem::replace(&mut self.held, rest);
        self.text(parts, text);
        false
    }

    fn close(&mut self, parts: &mut Vec<Part>) -> bool {
        let Some(close) = self.family.and_then(Family::close) else { return false };
        let Some(at) = self.held.find(close) else { return false };
        let rest = self.held.split_off(at);
        let inner = std::mem::replace(&mut self.held, rest[close.len()..].to_owned());
        self.state = State::Text;
        self.call(&inner, close, parts);
        true
    }

    /// `inner` is what stood between the marks; text after all if it makes no sense.
    fn call(&mut self, inner: &str, close: &str, parts: &mut Vec<Part>) {
        let Some(family) = self.family else { return };
        match parse(family, inner, &self.tools) {
            Some(calls) => {
                self.calls += calls.len();
                let with_id = |call: super::calls::Call| ToolCall { id: id(family), name: call.name, arguments: call.arguments };
                parts.extend(calls.into_iter().map(with_id).map(Part::Call));
            }
            None => {
                // Llama's object has no mark before it.
                let open = if family == Family::Llama3 { "" } else { family.open() };
                say(parts, Part::Text, format!("{open}{inner}{close}"));
            }
        }
    }

    fn text(&self, parts: &mut Vec<Part>, text: String) {
        // What stands before the first call and after each is form, if it is nothing but white space.
        if self.family.is_some() && text.trim().is_empty() && (self.calls > 0 || self.state == State::Beginning) {
            return;
        }
        say(parts, Part::Text, text);
    }
}

fn say(parts: &mut Vec<Part>, part: impl FnOnce(String) -> Part, text: String) {
    if !text.is_empty() {
        parts.push(part(text));
    }
}

fn id(family: Family) -> String {
    let random: String = rand::rng().sample_iter(Alphanumeric).take(family.id_length()).map(char::from).collect();
    if family == Family::Mistral { random } else { format!("call_{random}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Tool> {
        ["weather", "time"].map(|name| Tool { name: name.into(), description: None, parameters: json!({}) }).into()
    }

    /// The parts with neighbours of a kind joined and ids left out, whatever the text is cut into.
    fn read(family: Option<Family>, thinks: bool, began: bool, text: &str) -> Vec<(char, String)> {
        let mut outcomes = Vec::new();
        for size in [1, 2, 3, 7, 1000] {
            let mut parser = Parser::new(family, if family.is_some() { tools() } else { Vec::new() }, thinks, began);
            let letters: Vec<char> = text.chars().collect();
            let mut parts: Vec<Part> = letters.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>())).collect();
            parts.extend(parser.finish());
            let mut joined: Vec<(char, String)> = Vec::new();
            for part in parts {
                let (kind, text) = match part {
                    Part::Text(text) => ('t', text),
                    Part::Reasoning(text) => ('r', text),
                    Part::Call(call) => ('c', format!("{} {}", call.name, call.arguments)),
                };
                match joined.last_mut() {
                    Some((last, so_far)) if *last == kind && kind != 'c' => so_far.push_str(&text),
                    _ => joined.push((kind, text)),
                }
            }
            outcomes.push(joined);
        }
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "where a text is cut must not matter: {outcomes:?}");
        outcomes.remove(0)
    }

    fn parts(expected: &[(char, &str)]) -> Vec<(char, String)> {
        expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect()
    }

    #[test]
    fn calls_are_taken_out_of_the_text() {
        let text = "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
        let expected = [('t', "Let me look.\n"), ('c', "weather {\"city\":\"Bonn\"}"), ('c', "time {}")];
        assert_eq!(read(Some(Family::Hermes), false, false, text), parts(&expected));
    }

    #[test]
    fn what_only_looks_like_a_call_stays_text() {
        for text in [
            "a < b and <tool",
            "<tool_call>nonsense</tool_call> indeed",
            "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"wea",
        ] {
            assert_eq!(read(Some(Family::Hermes), false, false, text), parts(&[('t', text)]));
        }
        assert_eq!(read(None, false, false, "<tool_call>{}</tool_call>"), parts(&[('t', "<tool_call>{}</tool_call>")]));
    }

    #[test]
    fn llama_calls_with_its_whole_answer() {
        let call = r#"{"name": "weather", "parameters": {"city": "Bonn"}}"#;
        let expected = parts(&[('c', "weather {\"city\":\"Bonn\"}")]);
        assert_eq!(read(Some(Family::Llama3), false, false, call), expected);
        assert_eq!(read(Some(Family::Llama3), false, false, &format!("<|python_tag|>{call}")), expected);
        assert_eq!(read(Some(Family::Llama3), false, false, "{not json}"), parts(&[('t', "{not json}")]));
    }

    #[test]
    fn thoughts_are_apart() {
        let expected = parts(&[('r', "\nhm, 2 < 3\n"), ('t', "Yes.")]);
        assert_eq!(read(None, true, false, "<think>\nhm, 2 < 3\n</think>\n\nYes."), expected);
        assert_eq!(read(None, true, true, "\nhm, 2 < 3\n</think>\n\nYes."), expected);
        assert_eq!(read(None, true, false, "No <think> here."), parts(&[('t', "No <think> here.")]));
        assert_eq!(read(None, true, true, "never ends"), parts(&[('r', "never ends")]));
        assert_eq!(read(None, false, false, "<think>kept</think>"), parts(&[('t', "<think>kept</think>")]));
    }

    #[test]
    fn a_call_may_follow_thoughts() {
        let text = "<think>I need the time.</think>\n<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
        assert_eq!(read(Some(Family::Hermes), true, false, text), parts(&[('r', "I need the time."), ('c', "time {}")]));
    }

    #[test]
    fn ids_suit_the_template() {
        assert_eq!(id(Family::Mistral).len(), 9);
        assert!(id(Family::Hermes).starts_with("call_") && id(Family::Hermes) != id(Family::Hermes));
    }
}

//! Answers in Harmony, the format of gpt-oss: messages one behind another, each behind a header that says which channel
//! it belongs to, and whom it goes to. The prompt has begun the first header with `<|start|>assistant`.
//!
//! ```text
//! <|channel|>analysis<|message|>thoughts<|end|>
//! <|start|>assistant<|channel|>commentary to=functions.name <|constrain|>json<|message|>{…}<|call|>
//! <|start|>assistant<|channel|>final<|message|>answer<|return|>
//! ```

use std::mem;

use serde_json::Value;
use worker_protocol::Tool;

use super::calls::Call;
use super::family::Family;
use super::parser::{LONGEST_FORM, Part, Reader, beginning, first, say, with_id};

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
/// What a header may begin with; the last where the prompt has begun it.
const HEADERS: [&str; 4] = [START, CHANNEL, MESSAGE, "to=functions."];
/// What ends a message. The first three say so, a header whose message was not ended does as well.
const ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", START, CHANNEL];
/// A header is a few words; what is longer is none.
const LONGEST_HEADER: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A header, or text without one.
    Beginning,
    Header,
    Message(Kind),
    /// Behind the mark that ended a message of that kind.
    Between(Kind, &'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// Behind what only looked like a header; the mark that ends it is text as well.
    Plain,
    Thoughts,
    /// The header and the tool's name.
    Call(String, String),
}

/// See the module.
pub struct Channels {
    tools: Vec<Tool>,
    state: State,
    held: String,
    /// So many bytes of what is held of a call have no mark that ends it.
    searched: usize,
}

impl Channels {
    pub fn new(tools: Vec<Tool>) -> Self {
        Self { tools, state: State::Beginning, held: String::new(), searched: 0 }
    }
}

impl Reader for Channels {
    fn hold(&mut self, text: &str) {
        self.held.push_str(text);
    }

    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match &self.state {
            State::Beginning => self.begin(&HEADERS, Kind::Text, ""),
            State::Header => self.read_header(parts),
            State::Message(kind) => {
                let kind = kind.clone();
                self.read(kind, parts)
            }
            State::Between(kind, mark) => {
                let (kind, mark) = (kind.clone(), *mark);
                self.begin(&[START, CHANNEL], kind, mark)
            }
        }
    }

    fn thinks(&self) -> bool {
        self.state == State::Message(Kind::Thoughts)
    }

    fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = mem::take(&mut self.held);
        match mem::replace(&mut self.state, State::Beginning) {
            State::Message(kind) => self.message(&kind, rest, "", &mut parts),
            State::Between(_, _) if rest.trim().is_empty() => {}
            State::Between(kind, mark) => self.message(&kind, format!("{mark}{rest}"), "", &mut parts),
            State::Beginning | State::Header => say(&mut parts, Part::Text, rest),
        }
        parts
    }
}

impl Channels {
    /// A header, if what follows is one of `headers`; otherwise a message of that kind, which the mark belongs to.
    fn begin(&mut self, headers: &[&str], kind: Kind, mark: &str) -> bool {
        let begun = self.held.trim_start();
        let short = self.held.len() - begun.len() <= LONGEST_FORM;
        let may_become = |header: &&str| begun.len() < header.len() && header.starts_with(begun);
        if short && (begun.is_empty() || headers.iter().any(may_become)) {
            return false;
        }
        if short && headers.iter().any(|header| begun.starts_with(header)) {
            self.state = State::Header;
        } else {
            self.held.insert_str(0, mark);
            // The mark must not be found again.
            self.searched = mark.len();
            self.state = State::Message(kind);
        }
        true
    }

    fn read_header(&mut self, parts: &mut Vec<Part>) -> bool {
        let Some(at) = self.held.find(MESSAGE).filter(|at| *at <= LONGEST_HEADER) else {
            if self.held.len() < LONGEST_HEADER + MESSAGE.len() {
                return false;
            }
            self.unmark(parts);
            return true;
        };
        let rest = self.held.split_off(at);
        let header = mem::replace(&mut self.held, rest[MESSAGE.len()..].to_owned());
        let kind = self.kind(&header);
        if kind.is_none() {
            say(parts, Part::Text, format!("{header}{MESSAGE}"));
        }
        self.searched = 0;
        self.state = State::Message(kind.unwrap_or(Kind::Plain));
        true
    }

    /// What only looked like a header is text; without its first letter, its mark will not be found again.
    fn unmark(&mut self, parts: &mut Vec<Part>) {
        let first_letter = self.held.chars().next().map_or(0, char::len_utf8);
        let rest = self.held.split_off(first_letter);
        say(parts, Part::Text, mem::replace(&mut self.held, rest));
        self.searched = 0;
        self.state = State::Message(Kind::Plain);
    }

    /// What follows a header; `None` if it makes no sense, or goes to somebody who is not known.
    fn kind(&self, header: &str) -> Option<Kind> {
        let recipient = header.rsplit_once("to=").map(|(_, recipient)| word(recipient));
        if let Some(recipient) = recipient.filter(|recipient| *recipient != "assistant") {
            let name = recipient.strip_prefix("functions.").unwrap_or(recipient);
            let known = self.tools.iter().any(|tool| tool.name == name);
            return known.then(|| Kind::Call(format!("{header}{MESSAGE}"), name.to_owned()));
        }
        // The model now and then begins one header inside of another.
        match header.rsplit_once(CHANNEL).map(|(_, channel)| word(channel)) {
            Some("analysis") => Some(Kind::Thoughts),
            Some("final" | "commentary") => Some(Kind::Text),
            Some(_) => None,
            None => matches!(header.trim(), "" | "<|start|>assistant").then_some(Kind::Text),
        }
    }

    fn read(&mut self, kind: Kind, parts: &mut Vec<Part>) -> bool {
        let ends = || ENDS.into_iter();
        let Some((at, mark)) = first(&self.held[self.searched..], ends()) else {
            let keep = beginning(&self.held[self.searched..], ends());
            let clear = self.held.len() - keep;
            if let Kind::Call(_, _) = kind {
                self.searched = clear;
            } else {
                self.searched = 0;
                let rest = self.held.split_off(clear);
                let text = mem::replace(&mut self.held, rest);
                self.message(&kind, text, "", parts);
            }
            return false;
        };
        let rest = self.held.split_off(self.searched + at);
        let text = mem::take(&mut self.held);
        self.searched = 0;
        if mark == START || mark == CHANNEL {
            self.message(&kind, text, "", parts);
            self.held = rest;
            self.state = State::Header;
        } else {
            self.message(&kind, text, mark, parts);
            self.held = rest[mark.len()..].to_owned();
            self.state = match kind {
                // Nothing is left to say of its mark, whatever follows.
                Kind::Call(_, _) | Kind::Plain => State::Between(Kind::Text, ""),
                Kind::Text | Kind::Thoughts => State::Between(kind, mark),
            };
        }
        true
    }

    /// Passes on a message or a piece of it; `end` is the mark that ended it, which stays with what is no call.
    fn message(&self, kind: &Kind, text: String, end: &str, parts: &mut Vec<Part>) {
        match kind {
            Kind::Text => say(parts, Part::Text, text),
            Kind::Plain => say(parts, Part::Text, text + end),
            Kind::Thoughts => say(parts, Part::Reasoning, text),
            Kind::Call(header, name) => match serde_json::from_str::<Value>(text.trim()) {
                Ok(arguments @ Value::Object(_)) => {
                    parts.push(with_id(Family::Harmony, Call { name: name.clone(), arguments: arguments.to_string() }));
                }
                _ => say(parts, Part::Text, format!("{header}{text}{end}")),
            },
        }
    }
}

/// The first word of `text`.
fn word(text: &str) -> &str {
    text.trim_start().split(|c: char| c.is_whitespace() || c == '<').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Thoughts;
    use crate::tools::samples::{parts, read, tools};

    const THOUGHTS: &str = "<|channel|>analysis<|message|>They want < the time.<|end|>";
    const CALL: &str = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Bonn\"}";
    const WEATHER: (char, &str) = ('c', "weather {\"city\":\"Bonn\"}");

    fn harmony(text: &str) -> Vec<(char, String)> {
        read(Family::Harmony, tools(), Thoughts::of(CHANNEL), false, text)
    }

    #[test]
    fn channels_are_told_apart() {
        let answer = format!("{THOUGHTS}<|start|>assistant<|channel|>final<|message|>It is 2 < 3.<|return|>");
        let expected = [('r', "They want < the time."), ('t', "It is 2 < 3.")];
        assert_eq!(harmony(&answer), parts(&expected));
        assert_eq!(read(Family::Harmony, Vec::new(), None, false, &answer), parts(&expected), "without tools as well");
        let open = "<|channel|>commentary<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Yes.";
        assert_eq!(harmony(open), parts(&[('r', "Hm."), ('t', "Yes.")]), "a mark that is missing, and one too many");
    }

    #[test]
    fn thoughts_are_known_while_they_are_written() {
        let mut channels = Channels::new(tools());
        let mut thinks = |text: &str| {
            channels.push(text);
            channels.thinks()
        };
        assert!(!thinks("<|channel|>analysis"));
        assert!(thinks("<|message|>") && thinks("They want") && thinks("<|e"));
        assert!(!thinks("nd|>") && !thinks("<|start|>assistant<|channel|>final<|message|>") && !thinks("Yes."));
    }

    #[test]
    fn an_answer_without_headers_is_text() {
        for text in ["{\"city\": \"Bonn\"}", " tomorrow to=functions. or so", "a <|chan", "to=you"] {
            assert_eq!(harmony(text), parts(&[('t', text)]));
        }
        assert_eq!(harmony("<|message|>Yes."), parts(&[('t', "Yes.")]));
    }

    #[test]
    fn calls_are_taken_out_wherever_the_header_names_the_tool() {
        for call in [
            CALL.to_owned(),
            format!("{CALL}<|call|>"),
            CALL.replace(" <|constrain|>json", ""),
            CALL.replace("commentary", "analysis").replace("<|constrain|>json", "code"),
            " to=functions.weather<|channel|>commentary json<|message|>{\"city\": \"Bonn\"}".to_owned(),
        ] {
            assert_eq!(harmony(&call), parts(&[WEATHER]), "{call}");
        }
        let after =
            format!("{THOUGHTS}<|start|>assistant<|channel|>commentary<|message|>Let me look.<|end|>\n<|start|>assistant{CALL}<|call|>");
        assert_eq!(harmony(&after), parts(&[('r', "They want < the time."), ('t', "Let me look."), WEATHER]));
        let time = "<|start|>assistant to=functions.time<|channel|>commentary json<|message|>{}";
        assert_eq!(harmony(&format!("{CALL}<|call|>{time}<|call|>")), parts(&[WEATHER, ('c', "time {}")]));
        assert_eq!(harmony(&format!("{CALL}{time}")), parts(&[WEATHER, ('c', "time {}")]), "a mark that is missing");
        assert_eq!(harmony(&format!("{CALL}<|call|> so")), parts(&[WEATHER, ('t', " so")]));
    }

    #[test]
    fn what_only_looks_like_a_call_or_a_header_stays_text() {
        for text in [
            CALL.replace("weather", "unknown"),
            CALL.replace("functions.weather", "browser.search") + "<|call|>",
            CALL.replace('}', ""),
            CALL.replace('}', "") + "<|call|> so",
            "<|channel|>nonsense<|message|>so".to_owned(),
            format!("<|channel|>{}<|message|>so", "x".repeat(600)),
            "<|start|>user<|message|>so".to_owned(),
        ] {
            assert_eq!(harmony(&text), parts(&[('t', text.as_str())]));
        }
        let said = "<|channel|>final<|message|>The mark <|end|> ends a message.";
        assert_eq!(harmony(said), parts(&[('t', "The mark <|end|> ends a message.")]));
    }

    #[test]
    fn white_space_without_end_is_text_and_not_held() {
        let long = "\n".repeat(LONGEST_FORM + 1);
        let text = format!("{long}Yes.<|end|>{long}");
        let answer = text.replace("Yes.", "<|channel|>final<|message|>Yes.");
        assert_eq!(harmony(&answer), parts(&[('t', text.as_str())]));
        let mut channels = Channels::new(tools());
        channels.push(&answer);
        assert!(channels.held.is_empty(), "If you are here because this failed: time grows with the square of the white space.");
    }

    #[test]
    fn wherever_an_answer_is_cut_nothing_is_lost_and_nothing_invented() {
        let whole = format!("{THOUGHTS}<|start|>assistant{CALL}<|call|>");
        let (thoughts, header) = ("<|channel|>analysis<|message|>".len(), THOUGHTS.len());
        let (begun, json) = (header + START.len(), whole.len() - "<|call|>".len());
        for at in 0..=whole.len() {
            let (cut, thought) = (&whole[..at], "They want < the time.");
            let expected = match at {
                0 => vec![],
                _ if at < thoughts => vec![('t', cut)],
                _ if at == thoughts => vec![],
                // A mark that is not complete belongs to what it stands behind.
                _ if at != header && at < begun => vec![('r', &cut[thoughts..])],
                _ if at == header => vec![('r', thought)],
                _ if at == json || at == whole.len() => vec![('r', thought), WEATHER],
                _ => vec![('r', thought), ('t', &cut[header..])],
            };
            assert_eq!(harmony(cut), parts(&expected), "{cut}");
        }
    }
}

//! Answers in which marks stand around thoughts and calls, and everything else is text.

use std::mem;

use worker_protocol::Tool;

use super::calls::parse;
use super::family::{Bare, Family, Mark};
use super::parser::{LONGEST_FORM, Part, Reader, beginning, first, say, with_id};
use super::thoughts::Thoughts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Beginning,
    Thinking,
    Text,
    /// Behind the mark that ends the answer, if nothing follows.
    Ended(&'static str),
    Call(Begun),
}

/// A call that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    /// Its open mark is empty where the call has none.
    mark: Mark,
    /// In the middle of thoughts.
    thinking: bool,
    /// So many bytes of what is held have no closing mark.
    searched: usize,
}

/// See the module.
pub struct Marks {
    /// How calls are written; `None`: there are no tools.
    family: Option<Family>,
    tools: Vec<Tool>,
    /// `None`: the model does not think, or has done so.
    thoughts: Option<&'static Thoughts>,
    /// The marks that the answer may stand between.
    around: &'static [(&'static str, &'static str)],
    /// The one that ends it, once it has begun with one.
    ends: Option<&'static str>,
    /// The model has thought.
    thought: bool,
    /// Some text was passed on since the beginning or the last call.
    said: bool,
    called: bool,
    state: State,
    held: String,
    /// White space before a call, which is text if that is none.
    form: String,
}

impl Marks {
    pub fn new(family: Option<Family>, tools: Vec<Tool>, thoughts: Option<&'static Thoughts>, began: bool) -> Self {
        let state = if began && thoughts.is_some() { State::Thinking } else { State::Beginning };
        let around = thoughts.map(|thoughts| thoughts.around_answer).unwrap_or_default();
        let (held, form) = (String::new(), String::new());
        Self { family, tools, thoughts, around, ends: None, thought: false, said: false, called: false, state, held, form }
    }
}

impl Reader for Marks {
    fn hold(&mut self, text: &str) {
        self.held.push_str(text);
    }

    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Beginning => self.begin(),
            State::Thinking => self.think(parts),
            State::Text => self.read(parts),
            State::Ended(mark) => self.end(mark, parts),
            State::Call(begun) => self.close(begun, parts),
        }
    }

    fn thinks(&self) -> bool {
        self.state == State::Thinking
    }

    fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = mem::take(&mut self.held);
        match self.state {
            State::Thinking => say(&mut parts, Part::Reasoning, rest),
            State::Call(begun) => self.call(begun, &rest, "", &mut parts),
            State::Ended(mark) if !rest.trim().is_empty() => say(&mut parts, Part::Text, format!("{}{mark}{rest}", self.form)),
            State::Ended(_) => {}
            State::Beginning | State::Text => {
                // White space alone is form where there is, or might have been, a call.
                if self.family.is_none() || self.said || !rest.trim().is_empty() {
                    say(&mut parts, Part::Text, rest);
                }
            }
        }
        parts
    }
}

impl Marks {
    fn begin(&mut self) -> bool {
        if self.thought {
            // What stands between thoughts and answer is form.
            self.held = self.held.trim_start().to_owned();
        }
        let begun = self.held.trim_start();
        if self.held.len() - begun.len() > LONGEST_FORM {
            self.state = State::Text;
            return true;
        }
        let mut marks = self.thoughts.iter().map(|thoughts| thoughts.open).chain(self.around.iter().map(|(open, _)| *open));
        if begun.is_empty() || marks.any(|mark| begun.len() < mark.len() && mark.starts_with(begun)) {
            return false;
        }
        if let Some(after) = self.thoughts.and_then(|thoughts| begun.strip_prefix(thoughts.open)) {
            self.held = after.to_owned();
            self.state = State::Thinking;
            return true;
        }
        if let Some((after, close)) = self.around.iter().find_map(|(open, close)| Some((begun.strip_prefix(open)?, *close))) {
            self.held = after.to_owned();
            self.ends = Some(close);
            // There is one pair, and the call may stand where the answer would.
            self.around = &[];
            self.thoughts = None;
            return true;
        }
        let bare = self.family.map_or(Bare::No, |family| family.bare(begun, self.tools.iter().map(|tool| tool.name.as_str())));
        self.state = match bare {
            Bare::Perhaps => return false,
            Bare::Yes => State::Call(Begun { mark: Mark { open: "", close: None }, thinking: false, searched: 0 }),
            Bare::No => State::Text,
        };
        true
    }

    fn think(&mut self, parts: &mut Vec<Part>) -> bool {
        let Some(thoughts) = self.thoughts else {
            self.state = State::Text;
            return true;
        };
        let calls = self.family.filter(|family| family.ends_thoughts()).map(Family::marks).unwrap_or_default();
        let marks = || [thoughts.close].into_iter().chain(calls.iter().map(|mark| mark.open));
        let Some((at, mark)) = first(&self.held, marks()) else {
            let keep = beginning(&self.held, marks());
            let rest = self.held.split_off(self.held.len() - keep);
            say(parts, Part::Reasoning, mem::replace(&mut self.held, rest));
            return false;
        };
        let rest = self.held.split_off(at);
        say(parts, Part::Reasoning, mem::replace(&mut self.held, rest[mark.len()..].to_owned()));
        match calls.iter().find(|call| call.open == mark) {
            Some(call) => self.state = State::Call(Begun { mark: *call, thinking: true, searched: 0 }),
            None => self.have_thought(),
        }
        true
    }

    /// The thoughts have ended; the answer begins, or goes on.
    fn have_thought(&mut self) {
        let begun = self.said || self.called || self.ends.is_some();
        self.state = if begun { State::Text } else { State::Beginning };
        self.thought = true;
        self.thoughts = self.thoughts.filter(|thoughts| thoughts.anywhere);
    }

    fn read(&mut self, parts: &mut Vec<Part>) -> bool {
        let calls = self.family.map(Family::marks).unwrap_or_default();
        let again = self.thoughts.filter(|thoughts| thoughts.anywhere).map(|thoughts| thoughts.open);
        let ends = self.ends;
        let marks = || calls.iter().map(|mark| mark.open).chain(again).chain(ends);
        let Some((at, mark)) = first(&self.held, marks()) else {
            let mut keep = beginning(&self.held, marks());
            let clear = &self.held[..self.held.len() - keep];
            if !self.said && clear.len() <= LONGEST_FORM && clear.trim().is_empty() {
                // White space before a call or between two is nobody's text.
                keep = self.held.len();
            }
            let rest = self.held.split_off(self.held.len() - keep);
            let text = mem::replace(&mut self.held, rest);
            self.text(parts, text);
            return false;
        };
        let rest = self.held.split_off(at);
        let text = mem::replace(&mut self.held, rest[mark.len()..].to_owned());
        self.form.clear();
        if self.said || text.len() > LONGEST_FORM || !text.trim().is_empty() {
            self.text(parts, text);
        } else {
            self.form = text;
        }
        self.state = match calls.iter().find(|call| call.open == mark) {
            Some(call) => State::Call(Begun { mark: *call, thinking: false, searched: 0 }),
            None => ends.filter(|end| *end == mark).map_or(State::Thinking, State::Ended),
        };
        true
    }

    /// Behind `mark`, which is text after all if any follows that is no call.
    fn end(&mut self, mark: &'static str, parts: &mut Vec<Part>) -> bool {
        let after = self.held.trim_start();
        let short = self.held.len() - after.len() <= LONGEST_FORM;
        let calls = self.family.map(Family::marks).unwrap_or_default();
        let may_become = |open: &str| after.len() < open.len() && open.starts_with(after);
        if short && (after.is_empty() || calls.iter().any(|call| may_become(call.open))) {
            return false;
        }
        if short && calls.iter().any(|call| after.starts_with(call.open)) {
            self.held = after.to_owned();
            self.ends = None;
        } else {
            let form = mem::take(&mut self.form);
            self.text(parts, form + mark);
        }
        self.state = State::Text;
        true
    }

    fn close(&mut self, begun: Begun, parts: &mut Vec<Part>) -> bool {
        let Some(close) = begun.mark.close else { return false };
        // Thoughts that end before the call does only spoke of its mark, and the answer is what comes behind them.
        let thoughts = self.thoughts.filter(|_| begun.thinking).map(|thoughts| thoughts.close);
        let ends = || [close].into_iter().chain(thoughts);
        let Some((at, end)) = first(&self.held[begun.searched..], ends()) else {
            let searched = self.held.len() - beginning(&self.held[begun.searched..], ends());
            self.state = State::Call(Begun { searched, ..begun });
            return false;
        };
        let rest = self.held.split_off(begun.searched + at);
        let inner = mem::take(&mut self.held);
        if end == close {
            self.held = rest[close.len()..].to_owned();
            self.call(begun, &inner, close, parts);
        } else {
            self.held = rest;
            self.state = State::Thinking;
            say(parts, Part::Reasoning, format!("{}{inner}", begun.mark.open));
        }
        true
    }

    /// `inner` is what stood between the marks; text or thoughts after all if it makes no sense.
    fn call(&mut self, begun: Begun, inner: &str, close: &str, parts: &mut Vec<Part>) {
        let form = mem::take(&mut self.form);
        let closed = begun.mark.close == Some(close);
        match self.family.and_then(|family| Some((family, parse(family, inner, closed, &self.tools)?))) {
            Some((family, calls)) => {
                (self.called, self.said) = (true, false);
                parts.extend(calls.into_iter().map(|call| with_id(family, call)));
                if begun.thinking {
                    self.have_thought();
                }
                self.state = State::Text;
            }
            None if begun.thinking => {
                say(parts, Part::Reasoning, format!("{}{inner}{close}", begun.mark.open));
                self.state = State::Thinking;
            }
            None => {
                self.text(parts, format!("{form}{}{inner}{close}", begun.mark.open));
                self.state = State::Text;
            }
        }
    }

    fn text(&mut self, parts: &mut Vec<Part>, text: String) {
        self.said |= !text.is_empty();
        say(parts, Part::Text, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::samples::{parts, tools};

    /// A reader without tools where there is no family.
    fn read(family: Option<Family>, template: &str, began: bool, text: &str) -> Vec<(char, String)> {
        let tools = if family.is_some() { tools() } else { Vec::new() };
        crate::tools::samples::read(family.unwrap_or(Family::Hermes), tools, Thoughts::of(template), began, text)
    }

    #[test]
    fn thoughts_are_apart() {
        let expected = parts(&[('r', "\nhm, 2 < 3\n"), ('t', "Yes.")]);
        for template in ["</think>", "[/THINK]", "</seed:think>", "<|END_THINKING|>", "<channel|>", "◁/think▷", "Here is my response:"]
        {
            let thoughts = Thoughts::of(template).expect("known");
            let (open, close) = (thoughts.open, thoughts.close);
            assert_eq!(read(None, template, false, &format!("{open}\nhm, 2 < 3\n{close}\n\nYes.")), expected, "{template}");
            assert_eq!(read(None, template, true, &format!("\nhm, 2 < 3\n{close}\n\nYes.")), expected, "{template}");
            assert_eq!(read(None, template, true, "never ends"), parts(&[('r', "never ends")]));
            let cut: String = open.chars().take(open.chars().count() - 1).collect();
            assert_eq!(read(None, template, false, &cut), parts(&[('t', cut.as_str())]));
            let half: String = close.chars().take(3).collect();
            assert_eq!(read(None, template, true, &half), parts(&[('r', half.as_str())]));
        }
        assert_eq!(read(None, "</think>", false, "No <think> here."), parts(&[('t', "No <think> here.")]));
        assert_eq!(read(None, "", false, "<think>kept</think>"), parts(&[('t', "<think>kept</think>")]));
    }

    #[test]
    fn thoughts_may_come_again_where_the_model_does_so() {
        let text = "<|channel>thought\nfirst<channel|>Yes.<|channel>thought\n<channel|> Really.";
        let expected = [('r', "\nfirst"), ('t', "Yes."), ('r', "\n"), ('t', " Really.")];
        assert_eq!(read(Some(Family::Gemma), "<channel|>", false, text), parts(&expected));
        assert_eq!(read(None, "<channel|>", false, text), parts(&expected));
        let text = "<think>first</think>Yes.<think>";
        assert_eq!(read(None, "</think>", false, text), parts(&[('r', "first"), ('t', "Yes.<think>")]));
    }

    #[test]
    fn a_call_may_follow_thoughts() {
        let text = "<think>I need the time.</think>\n<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
        assert_eq!(read(Some(Family::Hermes), "</think>", false, text), parts(&[('r', "I need the time."), ('c', "time {}")]));
        let text = "<|START_THINKING|>I need the time.<|END_THINKING|><|START_ACTION|>[{\"tool_name\": \"time\"}]<|END_ACTION|>";
        assert_eq!(read(Some(Family::Command), "<|END_THINKING|>", false, text), parts(&[('r', "I need the time."), ('c', "time {}")]));
    }

    #[test]
    fn a_call_in_thoughts_ends_them_where_models_are_known_to_do_so() {
        let call = "<minimax:tool_call><invoke name=\"time\"></invoke></minimax:tool_call>";
        let expected = [('r', "The time, then."), ('c', "time {}"), ('t', "\nSo.")];
        assert_eq!(read(Some(Family::MiniMax), "</think>", true, &format!("The time, then.{call}\nSo.")), parts(&expected));
        let unknown = format!("I write {}.", call.replace("time", "unknown"));
        let expected = [('r', unknown.as_str()), ('t', "So.")];
        assert_eq!(read(Some(Family::MiniMax), "</think>", true, &format!("{unknown}</think>So.")), parts(&expected));
        let spoken = "First <minimax:tool_call>, then.</think>So.";
        let expected = parts(&[('r', "First <minimax:tool_call>, then."), ('t', "So.")]);
        assert_eq!(read(Some(Family::MiniMax), "</think>", true, spoken), expected);
        let cut = &call[..call.len() - 30];
        assert_eq!(read(Some(Family::MiniMax), "</think>", true, cut), parts(&[('r', cut)]));
        let other = "It would be <tool_call>{\"name\": \"time\"}</tool_call>.";
        assert_eq!(read(Some(Family::Hermes), "</think>", true, other), parts(&[('r', other)]));
    }

    #[test]
    fn the_marks_around_an_answer_are_form() {
        let command = |text| read(Some(Family::Command), "<|END_THINKING|>", false, text);
        assert_eq!(command("<|START_RESPONSE|>Yes.<|END_RESPONSE|>"), parts(&[('t', "Yes.")]));
        assert_eq!(command("<|START_TEXT|>Yes."), parts(&[('t', "Yes.")]));
        let call = "<|START_ACTION|>[{\"tool_name\": \"time\"}]<|END_ACTION|>";
        let then = format!("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>I look.<|END_RESPONSE|>\n{call}");
        assert_eq!(command(&then), parts(&[('r', "Hm."), ('t', "I look."), ('c', "time {}")]));
        let template = "<think></think><response></response>";
        let granite = |text| read(None, template, false, text);
        assert_eq!(granite("<think>Hm.</think>\n<response>\nYes.</response>\n"), parts(&[('r', "Hm."), ('t', "Yes.")]));
    }

    #[test]
    fn the_same_marks_inside_of_an_answer_are_text() {
        let granite = |text| read(None, "<think></think><response></response>", false, text);
        for text in ["A <response> has an end: </response>.", "<respon"] {
            assert_eq!(granite(text), parts(&[('t', text)]));
        }
        let text = "<response>An XML file ends with </response> and so on.</response>";
        assert_eq!(granite(text), parts(&[('t', "An XML file ends with </response> and so on.")]));
    }

    #[test]
    fn white_space_around_calls_is_form_and_anything_else_is_not() {
        let call = "<tool_call>{\"name\": \"time\"}</tool_call>";
        let hermes = |text: String| read(Some(Family::Hermes), "", false, &text);
        assert_eq!(hermes(format!("\n{call}\n\n{call}\n")), parts(&[('c', "time {}"), ('c', "time {}")]));
        assert_eq!(hermes(format!("{call}\n<toolbox>")), parts(&[('c', "time {}"), ('t', "\n<toolbox>")]));
        for text in ["a < b and <tool", "\n<tool_call> is a mark", " <tool_call></tool_call>\n"] {
            assert_eq!(hermes(text.into()), parts(&[('t', text)]));
        }
    }

    #[test]
    fn white_space_without_end_is_text_and_not_held() {
        let (call, long) = ("<tool_call>{\"name\": \"time\"}</tool_call>", "\n".repeat(LONGEST_FORM + 1));
        let expected = [('t', long.as_str()), ('c', "time {}"), ('t', long.as_str()), ('c', "time {}")];
        assert_eq!(read(Some(Family::Hermes), "", false, &format!("{long}{call}{long}{call}")), parts(&expected));
        for thoughts in [None, Thoughts::of("</response></think><response>")] {
            let mut marks = Marks::new(Some(Family::Hermes), tools(), thoughts, false);
            for _ in 0..10 {
                marks.push(&long);
            }
            assert!(
                marks.held.is_empty(),
                "If you are here because this failed: time grows with the square of the white space, of which models may write no end."
            );
        }
    }

    #[test]
    fn llama_calls_with_its_whole_answer_or_not_at_all() {
        assert_eq!(read(Some(Family::Llama3), "", false, "{not json}"), parts(&[('t', "{not json}")]));
        let answer = "{\"name\": \"time\"}, it says.";
        assert_eq!(read(Some(Family::Llama3), "", false, answer), parts(&[('t', answer)]));
    }

    #[test]
    fn a_call_of_any_length_is_looked_at_once() {
        let mut marks = Marks::new(Some(Family::Hermes), tools(), None, false);
        assert!(marks.push("<tool_call>{\"name\": \"time\", \"arguments\": {\"text\": \"").is_empty());
        for _ in 0..1000 {
            assert!(marks.push("some < text and </tool").is_empty());
            let State::Call(begun) = marks.state else { panic!("{:?}", marks.state) };
            assert_eq!(
                marks.held.len() - begun.searched,
                "</tool".len(),
                "If you are here because this failed: time grows with the square of a call's length."
            );
        }
    }
}

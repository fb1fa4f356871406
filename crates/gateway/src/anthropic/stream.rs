//! An answer as it is made. Each block of content begins, goes on and ends before the next one begins.

use super::{
    WORDS,
    answer::{Block, Message, SIGNATURE, Usage, ending, input},
    events::{Delta, Event},
    failure::Told,
};
use crate::{chat::Named, failure::Failure, follow::Render, sse, usage::Cost};
use axum::body::Bytes;
use contract::ids::RequestId;
use inference::{Ended, Finish, Output, ToolCall};
use serde_json::{Map, Value};
use std::collections::VecDeque;

/// What a block that goes on consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

/// See the module.
pub struct Blocks {
    named: Named,
    /// Thoughts are told.
    thoughts: bool,
    request: RequestId,
    started: bool,
    /// The block that goes on.
    open: Option<Kind>,
    /// Blocks that have ended, which is the number of the next one.
    ended: u32,
    calls: bool,
    /// Frames of the output that is being told.
    frames: VecDeque<Bytes>,
}

impl Blocks {
    pub fn new(named: Named, thoughts: bool, request: RequestId) -> Self {
        Self { named, thoughts, request, started: false, open: None, ended: 0, calls: false, frames: VecDeque::new() }
    }

    fn say(&mut self, event: &Event<'_>) {
        self.frames.push_back(sse::named(event.name(), event));
    }

    /// Once, before everything else; with a ping, as Anthropic has it.
    fn start(&mut self, usage: Usage) {
        if !std::mem::replace(&mut self.started, true) {
            let event = Event::MessageStart { message: Message::new(&self.named, Vec::new(), None, usage) };
            self.frames.push_back(sse::named(event.name(), &event));
            self.say(&Event::Ping);
        }
    }

    fn open(&mut self, content_block: Block<'_>) {
        self.start(Usage::default());
        self.say(&Event::ContentBlockStart { index: self.ended, content_block });
    }

    fn go_on(&mut self, delta: Delta<'_>) {
        self.say(&Event::ContentBlockDelta { index: self.ended, delta });
    }

    fn close(&mut self) {
        self.say(&Event::ContentBlockStop { index: self.ended });
        self.ended += 1;
    }

    /// Goes on in the open block if it is of this kind; else that one ends and another one begins.
    fn enter(&mut self, kind: Kind) {
        if self.open == Some(kind) {
            return;
        }
        self.leave();
        self.open(match kind {
            Kind::Text => Block::Text { text: "" },
            Kind::Thinking => Block::Thinking { thinking: "", signature: "" },
        });
        self.open = Some(kind);
    }

    fn leave(&mut self) {
        match self.open.take() {
            Some(Kind::Thinking) => self.go_on(Delta::Signature { signature: SIGNATURE }),
            Some(Kind::Text) => {}
            None => return,
        }
        self.close();
    }

    fn call(&mut self, call: &ToolCall) {
        self.leave();
        self.calls = true;
        self.open(Block::ToolUse { id: &call.id, name: &call.name, input: Map::new() });
        let input = Value::Object(input(call)).to_string();
        self.go_on(Delta::InputJson { partial_json: &input });
        self.close();
    }
}

impl Render for Blocks {
    /// Nothing: the first event tells how long the prompt is.
    fn begin(&mut self, _: &mut VecDeque<Bytes>) {}

    fn take(&mut self, output: Output, frames: &mut VecDeque<Bytes>) {
        match output {
            Output::Started { prompt_tokens, cached_tokens } => self.start(Usage::new(prompt_tokens, cached_tokens, 0)),
            Output::Text { text, .. } => {
                self.enter(Kind::Text);
                self.go_on(Delta::Text { text: &text });
            }
            Output::Reasoning { text, .. } if self.thoughts => {
                self.enter(Kind::Thinking);
                self.go_on(Delta::Thinking { thinking: &text });
            }
            Output::ToolCall { call, .. } => self.call(&call),
            _ => {}
        }
        frames.append(&mut self.frames);
    }

    /// There is one completion, which ends with the whole.
    fn ended(&mut self, _: u32, _: Finish, _: &mut VecDeque<Bytes>) {}

    fn end(&mut self, ended: &Ended, cost: Cost, frames: &mut VecDeque<Bytes>) {
        // Programs look at the first block without asking whether there is one.
        if self.ended == 0 {
            self.enter(self.open.unwrap_or(Kind::Text));
        }
        self.leave();
        let delta = ending(None, &ended.stats, ended.stop.as_deref(), self.calls);
        // What was said of the prompt at the beginning may have been an estimate.
        self.say(&Event::MessageDelta { delta, usage: Usage::of(&ended.stats, cost) });
        self.say(&Event::MessageStop);
        frames.append(&mut self.frames);
    }

    fn fail(&mut self, failure: &Failure, frames: &mut VecDeque<Bytes>) {
        frames.push_back(sse::named("error", &Told::of(&WORDS.tell(failure.clone()), self.request)));
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocks, Usage};
    use crate::{chat::Named, failure::Failure, follow::Render, usage::Cost};
    use contract::{chat::AnswerStats, ids::RequestId};
    use domain::Error;
    use inference::{Ended, Outcome, Output, ToolCall};
    use serde_json::{Value, json};
    use std::collections::VecDeque;
    use uuid::Uuid;

    const REQUEST: RequestId = RequestId(Uuid::nil());

    fn text(text: &str) -> Output {
        Output::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
    }

    fn thought(text: &str) -> Output {
        Output::Reasoning { choice: 0, text: text.into() }
    }

    fn blocks(thoughts: bool) -> Blocks {
        Blocks::new(Named { usage: "1".into(), model: "m".into(), created: 0 }, thoughts, REQUEST)
    }

    /// The events of a whole answer.
    fn events(thoughts: bool, outputs: impl IntoIterator<Item = Output>, finish_reason: &str) -> Vec<Value> {
        let (mut blocks, mut frames) = (blocks(thoughts), VecDeque::new());
        outputs.into_iter().for_each(|output| blocks.take(output, &mut frames));
        let (prompt_tokens, cached_tokens, completion_tokens) = (12, 4, 3);
        let finish_reason = finish_reason.into();
        let stats = AnswerStats { prompt_tokens, cached_tokens, completion_tokens, finish_reason, ..AnswerStats::default() };
        let ended = Ended { outcome: Outcome::Ok, stats, stop: None, error: None };
        blocks.end(&ended, Cost::default(), &mut frames);
        frames.iter().map(|frame| read(frame)).collect()
    }

    /// Each event has its type for a name.
    fn read(frame: &[u8]) -> Value {
        let frame = std::str::from_utf8(frame).unwrap();
        let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let value: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
        assert_eq!(value["type"], name);
        value
    }

    #[test]
    fn a_text_is_one_block_between_start_and_stop() {
        let started = Output::Started { prompt_tokens: 12, cached_tokens: 4 };
        let usage = |output_tokens| serde_json::to_value(Usage::new(12, 4, output_tokens)).unwrap();
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(0),
        });
        let expected = [
            json!({ "type": "message_start", "message": message }),
            json!({ "type": "ping" }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "One " } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "two." } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": usage(3) }),
            json!({ "type": "message_stop" }),
        ];
        assert_eq!(events(true, [started, text("One "), text("two.")], "stop"), expected);
    }

    #[test]
    fn thoughts_and_calls_are_blocks_of_their_own() {
        let call = ToolCall { id: "call_1".into(), name: "f".into(), arguments: r#"{ "a": 1 }"#.into() };
        let call = || Output::ToolCall { choice: 0, index: 0, call: Box::new(call.clone()) };
        let told = events(true, [thought("hm"), text("I look."), call(), text("So.")], "tool_calls");
        let delta = |event: &Value| Some((event["index"].as_u64()?, event.get("delta")?.clone()));
        let expected = [
            (0, json!({ "type": "thinking_delta", "thinking": "hm" })),
            (0, json!({ "type": "signature_delta", "signature": "kontor" })),
            (1, json!({ "type": "text_delta", "text": "I look." })),
            (2, json!({ "type": "input_json_delta", "partial_json": r#"{"a":1}"# })),
            (3, json!({ "type": "text_delta", "text": "So." })),
        ];
        assert_eq!(told.iter().filter_map(delta).collect::<Vec<_>>(), expected);
        let begun = |index: u32| told.iter().find(|event| event["type"] == "content_block_start" && event["index"] == index).unwrap();
        assert_eq!(begun(0)["content_block"], json!({ "type": "thinking", "thinking": "", "signature": "" }));
        assert_eq!(begun(2)["content_block"], json!({ "type": "tool_use", "id": "call_1", "name": "f", "input": {} }));
        assert_eq!(told[told.len() - 2]["delta"]["stop_reason"], "tool_use");
        let silent = events(false, [thought("hm"), call()], "stop");
        assert_eq!((silent.len(), &silent[2]["content_block"]["type"]), (7, &json!("tool_use")));
        assert_eq!(silent[5]["delta"]["stop_reason"], "tool_use");
    }

    #[test]
    fn an_answer_of_nothing_has_a_block_all_the_same() {
        let told = events(false, [], "length");
        assert_eq!(told[2], json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }));
        assert_eq!((told.len(), &told[4]["delta"]["stop_reason"]), (6, &json!("max_tokens")));
    }

    #[test]
    fn a_failure_is_an_event_too() {
        let mut frames = VecDeque::new();
        blocks(false).fail(&Failure::of(Error::unavailable("model", Some(5)), REQUEST), &mut frames);
        let told = read(&frames[0]);
        assert_eq!((frames.len(), &told["error"]["type"]), (1, &json!("overloaded_error")));
    }
}

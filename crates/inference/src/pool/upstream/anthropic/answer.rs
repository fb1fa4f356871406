//! Anthropic's stream of events as the events of a completion.

use super::{
    super::{
        super::backend::BackendError,
        errors,
        sse::{Held, Pace, Reader},
        wire::tokens_in,
    },
    events::{Block, Delta, Message, WireUsage},
};
use serde_json::Value;
use std::collections::BTreeMap;
use worker_protocol::{Event, Finish, ToolCall, Usage};

/// Blocks that one answer may have.
const MOST_BLOCKS: u32 = 1024;

/// What has come of an answer.
pub(super) struct Answer {
    pace: Pace,
    usage: Usage,
    prompt: Prompt,
    /// The input of the only call is the answer's text.
    as_call: bool,
    announced: bool,
    /// Calls whose input is still coming, by their block.
    calls: BTreeMap<u32, Pending>,
    held: Held,
    /// Calls that are complete.
    called: u32,
    end: Option<Finish>,
    /// The stop text that ended it.
    stop: Option<String>,
}

#[derive(Debug)]
struct Pending {
    call: ToolCall,
    /// What the block began with, if nothing else comes.
    input: String,
}

/// What the server told of the prompt so far. Not every message repeats all of it.
#[derive(Debug, Default)]
struct Prompt {
    /// Neither read from the cache nor written to it.
    input: Option<u32>,
    read: Option<u32>,
    written: Option<u32>,
}

impl Answer {
    /// `estimate`: prompt tokens until the server tells. `as_call`: an answer in JSON was asked for.
    pub(super) fn new(estimate: u32, as_call: bool) -> Self {
        Self {
            pace: Pace::begin(),
            usage: Usage { prompt_tokens: estimate, ..Usage::default() },
            prompt: Prompt::default(),
            as_call,
            announced: false,
            calls: BTreeMap::new(),
            held: Held::default(),
            called: 0,
            end: None,
            stop: None,
        }
    }
}

impl Reader for Answer {
    fn take(&mut self, data: &str) -> Result<Vec<Event>, BackendError> {
        let message: Message = serde_json::from_str(data).map_err(|error| BackendError::Protocol(error.to_string()))?;
        let mut events = Vec::new();
        match message {
            Message::MessageStart { message } => {
                self.count(message.usage);
                self.usage.completion_tokens = 0;
                self.announce(&mut events);
            }
            Message::ContentBlockStart { index, content_block } => self.begin(index, content_block, &mut events)?,
            Message::ContentBlockDelta { index, delta } => self.go_on(index, delta, &mut events)?,
            Message::ContentBlockStop { index } => self.complete(index, &mut events),
            Message::MessageDelta { delta, usage } => {
                self.count(usage);
                if let Some(reason) = delta.stop_reason {
                    self.end = Some(self.finish_of(&reason));
                    self.stop = delta.stop_sequence.filter(|_| reason == "stop_sequence");
                }
            }
            Message::MessageStop => return self.finish(),
            Message::Error { error } => {
                events.push(errors::meaning(status_of(&error.kind), &error.message)?.event(self.usage));
            }
            Message::Other => {}
        }
        Ok(events)
    }

    fn finish(&mut self) -> Result<Vec<Event>, BackendError> {
        let Some(finish) = self.end else {
            return Err(BackendError::Lost("the answer ended without a reason".into()));
        };
        Ok(vec![Event::Done { finish, stop: self.stop.take(), usage: self.usage, timings: self.pace.timings() }])
    }
}

impl Answer {
    fn announce(&mut self, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.announced, true) {
            events.push(Event::Started { prompt_tokens: self.usage.prompt_tokens, cached_tokens: self.usage.cached_tokens });
        }
    }

    /// Its figures are totals; those of the input leave out what the cache had or took in.
    fn count(&mut self, usage: Option<WireUsage>) {
        let Some(usage) = usage else { return };
        let Prompt { input, read, written } = &mut self.prompt;
        // What is not told is less than any figure.
        *input = (*input).max(usage.input_tokens);
        *read = (*read).max(usage.cache_read_input_tokens);
        *written = (*written).max(usage.cache_creation_input_tokens);
        if let Some(input) = *input {
            let (read, written) = (read.unwrap_or(0), written.unwrap_or(0));
            self.usage.prompt_tokens = input.saturating_add(read).saturating_add(written);
            self.usage.cached_tokens = read;
        }
        if let Some(output) = usage.output_tokens {
            self.usage.completion_tokens = output;
            self.usage.reasoning_tokens = self.usage.reasoning_tokens.min(output);
        }
    }

    fn begin(&mut self, index: u32, block: Block, events: &mut Vec<Event>) -> Result<(), BackendError> {
        if index >= MOST_BLOCKS {
            return Err(BackendError::Protocol(format!("a block has the number {index}")));
        }
        match block {
            Block::Text { text } => self.text(text, events),
            Block::Thinking { thinking } => self.thought(thinking, events),
            Block::ToolUse { id, name, input } => {
                let input = Value::Object(input).to_string();
                for text in [&id, &name, &input] {
                    self.held.take(text)?;
                }
                let call = ToolCall { id, name, arguments: String::new() };
                self.calls.insert(index, Pending { call, input });
            }
            Block::Other => {}
        }
        Ok(())
    }

    fn go_on(&mut self, index: u32, delta: Delta, events: &mut Vec<Event>) -> Result<(), BackendError> {
        match delta {
            Delta::TextDelta { text } => self.text(text, events),
            Delta::ThinkingDelta { thinking } => self.thought(thinking, events),
            Delta::InputJsonDelta { partial_json } => {
                let Some(pending) = self.calls.get_mut(&index) else {
                    return Err(BackendError::Protocol(format!("input for block {index}, which is no call")));
                };
                self.held.take(&partial_json)?;
                pending.call.arguments.push_str(&partial_json);
                if self.as_call {
                    self.say(partial_json, events);
                } else if self.piece(&partial_json) {
                    // The call is told when it is complete; what it costs up to here is told now.
                    self.tell(String::new(), events);
                }
            }
            Delta::Other => {}
        }
        Ok(())
    }

    fn complete(&mut self, index: u32, events: &mut Vec<Event>) {
        let Some(Pending { mut call, input }) = self.calls.remove(&index) else { return };
        let came = !call.arguments.is_empty();
        if !came {
            call.arguments = input;
        }
        if self.as_call {
            if !came {
                self.say(call.arguments, events);
            }
            return;
        }
        self.announce(events);
        self.pace.output();
        let (index, completion_tokens) = (self.called, self.usage.completion_tokens);
        self.called += 1;
        events.push(Event::ToolCall { choice: 0, index, call, completion_tokens });
    }

    /// What is said beside an answer in JSON is not part of it.
    fn text(&mut self, text: String, events: &mut Vec<Event>) {
        if !self.as_call {
            self.say(text, events);
        }
    }

    fn say(&mut self, text: String, events: &mut Vec<Event>) {
        if self.piece(&text) {
            self.tell(text, events);
        }
    }

    fn tell(&mut self, text: String, events: &mut Vec<Event>) {
        self.announce(events);
        let completion_tokens = self.usage.completion_tokens;
        events.push(Event::Text { choice: 0, text, completion_tokens, logprobs: Vec::new() });
    }

    fn thought(&mut self, text: String, events: &mut Vec<Event>) {
        if self.piece(&text) {
            // It never tells how many of its tokens these were.
            self.usage.reasoning_tokens = self.usage.reasoning_tokens.saturating_add(tokens_in(&text));
            self.announce(events);
            let completion_tokens = self.usage.completion_tokens;
            events.push(Event::Reasoning { choice: 0, text, completion_tokens });
        }
    }

    /// Something came, unless it is empty. It counts by its length until the server tells.
    fn piece(&mut self, text: &str) -> bool {
        if text.is_empty() {
            return false;
        }
        self.pace.output();
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(tokens_in(text));
        true
    }

    fn finish_of(&self, reason: &str) -> Finish {
        match reason {
            "refusal" => Finish::ContentFilter,
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" if !self.as_call => Finish::ToolCalls,
            _ => Finish::Stop,
        }
    }
}

/// The HTTP status that the same error has outside of a stream.
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "overloaded_error" => 529,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, BackendError, Event, Finish, Reader, ToolCall, Usage};
    use worker_protocol::FailCode;

    const HEAD: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":5,"cache_read_input_tokens":8,"output_tokens":1}}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;

    fn take(as_call: bool, messages: &[&str]) -> Result<Vec<Event>, BackendError> {
        let mut answer = Answer::new(9, as_call);
        let mut events = Vec::new();
        for message in messages {
            events.extend(answer.take(message)?);
        }
        Ok(events)
    }

    fn ends(reason: &str, output: u32) -> String {
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
        )
    }

    #[test]
    fn thoughts_text_and_figures_come_out() {
        let events = take(
            false,
            &[
                HEAD,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"abc"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"something_new","field":[1]}"#,
                &ends("end_turn", 17),
                STOP,
            ],
        )
        .unwrap();
        assert_eq!(events[0], Event::Started { prompt_tokens: 25, cached_tokens: 8 });
        assert_eq!(events[1], Event::Reasoning { choice: 0, text: "Hm.".into(), completion_tokens: 1 });
        assert_eq!(events[2], Event::Text { choice: 0, text: "Hello".into(), completion_tokens: 3, logprobs: vec![] });
        let usage = Usage { prompt_tokens: 25, cached_tokens: 8, completion_tokens: 17, reasoning_tokens: 1 };
        assert!(matches!(&events[3], Event::Done { finish: Finish::Stop, usage: told, .. } if *told == usage), "{events:?}");
        assert_eq!(events.len(), 4);
    }

    #[test]
    fn calls_are_put_together_and_numbered() {
        let events = take(
            false,
            &[
                HEAD,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"add","input":{}}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t2","name":"now","input":{}}}"#,
                r#"{"type":"content_block_stop","index":2}"#,
                &ends("tool_use", 30),
                STOP,
            ],
        )
        .unwrap();
        let call = |id: &str, name: &str, arguments: &str| ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() };
        let counted = |completion_tokens| Event::Text { choice: 0, text: String::new(), completion_tokens, logprobs: vec![] };
        assert_eq!(events[1..3], [counted(2), counted(3)], "what is cancelled here is paid for");
        assert_eq!(events[3], Event::ToolCall { choice: 0, index: 0, call: call("t1", "add", "{\"a\":1}"), completion_tokens: 3 });
        assert_eq!(events[4], Event::ToolCall { choice: 0, index: 1, call: call("t2", "now", "{}"), completion_tokens: 3 });
        assert!(matches!(events[5], Event::Done { finish: Finish::ToolCalls, .. }));
    }

    #[test]
    fn the_forced_call_is_the_answer() {
        let events = take(
            true,
            &[
                HEAD,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"answer","input":{}}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                &ends("tool_use", 30),
                STOP,
            ],
        )
        .unwrap();
        assert_eq!(events[1], Event::Text { choice: 0, text: "{\"a\":1}".into(), completion_tokens: 2, logprobs: vec![] });
        assert!(matches!(events[2], Event::Done { finish: Finish::Stop, .. }), "{events:?}");
    }

    #[test]
    fn reasons_and_errors_keep_their_meaning() {
        let last = |message: &str| take(false, &[HEAD, message, STOP]).map(|events| events.last().cloned());
        assert!(matches!(last(&ends("max_tokens", 5)), Ok(Some(Event::Done { finish: Finish::Length, .. }))));
        assert!(matches!(last(&ends("stop_sequence", 5)), Ok(Some(Event::Done { finish: Finish::Stop, .. }))));
        let stopped =
            r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"output_tokens":5}}"#;
        assert!(matches!(last(stopped), Ok(Some(Event::Done { finish: Finish::Stop, stop: Some(stop), .. })) if stop == "END"));
        let declined = last(&ends("refusal", 5));
        assert!(
            matches!(declined, Ok(Some(Event::Done { finish: Finish::ContentFilter, usage: Usage { prompt_tokens: 25, .. }, .. }))),
            "{declined:?}"
        );
        let error = |kind: &str| take(false, &[HEAD, &format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"…"}}}}"#)]);
        assert!(matches!(error("overloaded_error").unwrap()[1], Event::Failed { code: FailCode::Overloaded, .. }));
        assert!(matches!(error("invalid_request_error").unwrap()[1], Event::Failed { code: FailCode::Invalid, .. }));
        assert!(matches!(error("api_error"), Err(BackendError::Failing(_))));
        assert!(matches!(error("authentication_error"), Err(BackendError::Failing(_))));
    }

    #[test]
    fn figures_that_are_not_repeated_stay() {
        let end = |usage: &str| {
            let end = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#);
            match take(false, &[HEAD, &end, STOP]).unwrap().pop() {
                Some(Event::Done { usage, .. }) => (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(end(r#"{"input_tokens":12,"output_tokens":17}"#), (25, 8, 17));
        assert_eq!(end(r#"{"input_tokens":0,"cache_read_input_tokens":10,"output_tokens":17}"#), (27, 10, 17));
        assert_eq!(end("{}"), (25, 8, 0));
    }

    #[test]
    fn a_call_without_end_is_not_kept() {
        let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"add","input":{}}}"#;
        let piece = "x".repeat(700_000);
        let delta = format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"input_json_delta","partial_json":"{piece}"}}}}"#);
        assert!(take(false, &[HEAD, begin, &delta]).is_ok());
        assert!(matches!(take(false, &[HEAD, begin, &delta, &delta]), Err(BackendError::Protocol(_))));
    }

    #[test]
    fn an_answer_that_breaks_off_is_none() {
        let mut answer = Answer::new(9, false);
        answer.take(HEAD).unwrap();
        assert!(matches!(answer.finish(), Err(BackendError::Lost(_))));
        assert!(matches!(take(false, &["no JSON"]), Err(BackendError::Protocol(_))));
        let stray = r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{"}}"#;
        assert!(matches!(take(false, &[HEAD, stray]), Err(BackendError::Protocol(_))));
    }
}

//! An upstream's stream of chunks as the events of a completion.

use super::{
    super::backend::BackendError,
    errors,
    sse::{Held, Pace, Reader},
    wire::BYTES_PER_TOKEN,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use worker_protocol::{Event, Finish, TokenLogprob, ToolCall, Usage};

/// Completions and calls that one answer may have.
const MOST_PARTS: u32 = 64;

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    error: Option<Value>,
    /// Of an error in TGI's own words.
    error_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Delta,
    /// In the older interface, in the place of `delta`.
    text: Option<String>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    /// The same in other words; some versions of vLLM send both.
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: u32,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Debug, Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Logprobs {
    content: Option<Vec<WireLogprob>>,
}

#[derive(Debug, Deserialize)]
struct WireLogprob {
    token: String,
    bytes: Option<Vec<u8>>,
    logprob: f32,
    #[serde(default)]
    top_logprobs: Vec<WireLogprob>,
}

impl From<WireLogprob> for TokenLogprob {
    fn from(wire: WireLogprob) -> Self {
        let top = wire.top_logprobs.into_iter().map(Self::from).collect();
        Self { bytes: wire.bytes.unwrap_or_else(|| wire.token.into_bytes()), logprob: wire.logprob, top }
    }
}

/// What has come of an answer.
pub(super) struct Answer {
    pace: Pace,
    usage: Usage,
    announced: bool,
    /// How each completion ended.
    ends: BTreeMap<u32, Finish>,
    /// Calls that are being put together, by completion and number.
    calls: BTreeMap<(u32, u32), ToolCall>,
    held: Held,
}

impl Answer {
    /// `estimate`: prompt tokens until the server tells.
    pub(super) fn new(estimate: u32) -> Self {
        Self {
            pace: Pace::begin(),
            usage: Usage { prompt_tokens: estimate, ..Usage::default() },
            announced: false,
            ends: BTreeMap::new(),
            calls: BTreeMap::new(),
            held: Held::default(),
        }
    }
}

impl Reader for Answer {
    fn take(&mut self, data: &str) -> Result<Vec<Event>, BackendError> {
        if data.trim() == "[DONE]" {
            return self.finish();
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| BackendError::Protocol(error.to_string()))?;
        if let Some(error) = chunk.error {
            let status = status_of(&error, chunk.error_type.as_deref());
            return Ok(vec![errors::meaning(status, &error.to_string())?.event(self.usage)]);
        }
        let mut events = Vec::new();
        if !self.announced {
            self.announced = true;
            events.push(Event::Started { prompt_tokens: self.usage.prompt_tokens, cached_tokens: 0 });
        }
        for choice in chunk.choices {
            self.choice(choice, &mut events)?;
        }
        if let Some(usage) = chunk.usage {
            let cached_tokens = usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
            let reasoning_tokens = usage.completion_tokens_details.and_then(|details| details.reasoning_tokens);
            self.usage = Usage {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: cached_tokens.min(usage.prompt_tokens),
                completion_tokens: usage.completion_tokens,
                reasoning_tokens: reasoning_tokens.unwrap_or(self.usage.reasoning_tokens).min(usage.completion_tokens),
            };
        }
        Ok(events)
    }

    fn finish(&mut self) -> Result<Vec<Event>, BackendError> {
        let Some(finish) = self.ends.get(&0) else {
            return Err(BackendError::Lost("the answer ended without a reason".into()));
        };
        Ok(vec![Event::Done { finish: *finish, stop: None, usage: self.usage, timings: self.pace.timings() }])
    }
}

impl Answer {
    fn choice(&mut self, choice: Choice, events: &mut Vec<Event>) -> Result<(), BackendError> {
        let Choice { index, delta, text: raw, finish_reason, logprobs } = choice;
        if index >= MOST_PARTS {
            return Err(BackendError::Protocol(format!("a completion has the number {index}")));
        }
        let text = delta.content.or(raw).filter(|text| !text.is_empty());
        let reasoning = delta.reasoning_content.filter(|text| !text.is_empty()).or(delta.reasoning).filter(|text| !text.is_empty());
        if text.is_some() || reasoning.is_some() {
            self.pace.output();
            // Servers send a token at a time; how many there were they tell at the end.
            self.usage.completion_tokens += 1;
        }
        if reasoning.is_some() && text.is_none() {
            // Not all servers tell this one.
            self.usage.reasoning_tokens += 1;
        }
        let completion_tokens = self.usage.completion_tokens;
        if let Some(text) = reasoning {
            events.push(Event::Reasoning { choice: index, text, completion_tokens });
        }
        if let Some(text) = text {
            let logprobs = logprobs.and_then(|logprobs| logprobs.content).unwrap_or_default();
            let logprobs = logprobs.into_iter().map(TokenLogprob::from).collect();
            events.push(Event::Text { choice: index, text, completion_tokens, logprobs });
        }
        let mut called = 0;
        for part in delta.tool_calls.into_iter().flatten() {
            if part.index >= MOST_PARTS {
                return Err(BackendError::Protocol(format!("a call has the number {}", part.index)));
            }
            let call = self.calls.entry((index, part.index)).or_default();
            let function = part.function.unwrap_or(FunctionDelta { name: None, arguments: None });
            called += [&function.name, &function.arguments].into_iter().flatten().map(String::len).sum::<usize>();
            for (known, more) in [(&mut call.id, part.id), (&mut call.name, function.name), (&mut call.arguments, function.arguments)] {
                let more = more.unwrap_or_default();
                self.held.take(&more)?;
                known.push_str(&more);
            }
        }
        if called > 0 {
            self.count_call(index, called, events);
        }
        if let Some(reason) = finish_reason {
            self.end(index, &reason, events);
        }
        Ok(())
    }

    /// A call goes on by so many bytes. It is told when it is complete; what it costs up to here is told now. Some servers send
    /// a token at a time, others all arguments at once.
    fn count_call(&mut self, choice: u32, bytes: usize, events: &mut Vec<Event>) {
        self.pace.output();
        let tokens = u32::try_from((bytes / BYTES_PER_TOKEN).max(1)).unwrap_or(u32::MAX);
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(tokens);
        let completion_tokens = self.usage.completion_tokens;
        events.push(Event::Text { choice, text: String::new(), completion_tokens, logprobs: Vec::new() });
    }

    /// One completion ended; its calls are complete.
    fn end(&mut self, choice: u32, reason: &str, events: &mut Vec<Event>) {
        let calls = std::mem::take(&mut self.calls);
        let (mine, others) = calls.into_iter().partition(|((of, _), _)| *of == choice);
        self.calls = others;
        let mine: BTreeMap<(u32, u32), ToolCall> = mine;
        let finish = match reason {
            "length" => Finish::Length,
            "content_filter" => Finish::ContentFilter,
            _ if !mine.is_empty() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        let completion_tokens = self.usage.completion_tokens;
        events.extend(mine.into_iter().map(|((_, index), call)| Event::ToolCall { choice, index, call, completion_tokens }));
        if self.ends.insert(choice, finish).is_none() && choice > 0 {
            events.push(Event::Ended { choice, finish });
        }
    }
}

/// The HTTP status that an error within the answer stands for: vLLM tells it as `code`, TGI as `http_status_code` or by
/// a word beside the error.
fn status_of(error: &Value, word: Option<&str>) -> u16 {
    let error = error.get("error").unwrap_or(error);
    let number = |name: &str| error.get(name).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let told = number("code").or_else(|| number("http_status_code")).filter(|status| (400..600).contains(status));
    told.unwrap_or_else(|| match word.or_else(|| text("code")).or_else(|| text("type")) {
        Some("overloaded" | "overloaded_error" | "rate_limit_exceeded" | "rate_limit_error") => 429,
        Some("validation" | "template_error" | "tool_error" | "BadRequestError" | "invalid_request_error" | "context_length_exceeded") => {
            400
        }
        Some(word) if errors::FILTERED.contains(&word) => 400,
        _ => 500,
    })
}

#[cfg(test)]
mod tests {
    use super::{Answer, BackendError, Event, Finish, Reader, Usage};
    use worker_protocol::FailCode;

    fn take(chunks: &[&str]) -> Result<Vec<Event>, BackendError> {
        let mut answer = Answer::new(9);
        let mut events = Vec::new();
        for chunk in chunks {
            events.extend(answer.take(chunk)?);
        }
        events.extend(answer.finish()?);
        Ok(events)
    }

    #[test]
    fn text_and_figures_come_out() {
        let events = take(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        ])
        .unwrap();
        assert_eq!(events[0], Event::Started { prompt_tokens: 9, cached_tokens: 0 });
        assert_eq!(events[2], Event::Text { choice: 0, text: "lo".into(), completion_tokens: 2, logprobs: vec![] });
        let usage = Usage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 3, reasoning_tokens: 0 };
        assert!(matches!(&events[3], Event::Done { finish: Finish::Stop, usage: told, .. } if *told == usage), "{events:?}");
    }

    #[test]
    fn tokens_of_thoughts_are_the_servers_own_figure_or_counted() {
        let counted = |details: &str| {
            let usage = format!(r#"{{"choices":[],"usage":{{"prompt_tokens":12,"completion_tokens":9{details}}}}}"#);
            let events = take(&[
                r#"{"choices":[{"index":0,"delta":{"reasoning_content":"Hm"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"reasoning_content":", so"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"Yes."},"finish_reason":"stop"}]}"#,
                &usage,
            ])
            .unwrap();
            let Some(Event::Done { usage, .. }) = events.last() else { panic!("{events:?}") };
            usage.reasoning_tokens
        };
        assert_eq!(counted(r#","completion_tokens_details":{"reasoning_tokens":7}"#), 7);
        assert_eq!(counted(r#","completion_tokens_details":{"reasoning_tokens":70}"#), 9, "never more than were made");
        assert_eq!(counted(r#","completion_tokens_details":{}"#), 2);
        assert_eq!(counted(r#","completion_tokens_details":null"#), 2);
        assert_eq!(counted(""), 2);
    }

    #[test]
    fn a_call_in_pieces_is_put_together() {
        let events = take(&[
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"add","arguments":""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        ])
        .unwrap();
        let counted = |completion_tokens| Event::Text { choice: 0, text: String::new(), completion_tokens, logprobs: vec![] };
        assert_eq!(
            events[1..4],
            [counted(1), counted(2), counted(3)],
            "If you are here because this failed: whoever leaves while a call is being made does not pay for it."
        );
        let Event::ToolCall { call, completion_tokens: 3, .. } = &events[4] else { panic!("{events:?}") };
        assert_eq!((call.id.as_str(), call.name.as_str(), call.arguments.as_str()), ("c1", "add", "{\"a\":1}"));
        assert!(matches!(events[5], Event::Done { finish: Finish::ToolCalls, .. }));
    }

    #[test]
    fn a_call_that_comes_at_once_counts_by_its_length_and_no_call_not_at_all() {
        let arguments = "x".repeat(400);
        let whole = format!(r#"{{"choices":[{{"index":1,"delta":{{"tool_calls":[{{"function":{{"arguments":"{arguments}"}}}}]}}}}]}}"#);
        let mut answer = Answer::new(9);
        let none = answer.take(r#"{"choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[]}}]}"#).unwrap();
        assert_eq!(none, [Event::Started { prompt_tokens: 9, cached_tokens: 0 }]);
        let some = answer.take(&whole).unwrap();
        assert_eq!(some, [Event::Text { choice: 1, text: String::new(), completion_tokens: 100, logprobs: vec![] }]);
    }

    #[test]
    fn a_call_without_end_is_not_kept() {
        let piece = "x".repeat(700_000);
        let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"function":{{"arguments":"{piece}"}}}}]}}}}]}}"#);
        let mut answer = Answer::new(9);
        assert!(answer.take(&chunk).is_ok());
        assert!(matches!(answer.take(&chunk), Err(BackendError::Protocol(_))));
    }

    #[test]
    fn an_answer_that_breaks_off_or_reports_an_error_is_none() {
        let half = r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#;
        assert!(matches!(take(&[half]), Err(BackendError::Lost(_))));
        assert!(matches!(take(&[half, r#"{"error":{"message":"boom"}}"#]), Err(BackendError::Failing(_))));
        assert!(matches!(take(&["no JSON"]), Err(BackendError::Protocol(_))));
        assert!(take(&[r#"{"choices":[{"index":4000000000,"delta":{}}]}"#]).is_err());
    }

    #[test]
    fn an_error_within_the_answer_keeps_its_meaning() {
        let code = |chunk: &str| match Answer::new(9).take(chunk) {
            Ok(events) => match events.as_slice() {
                [Event::Failed { code, .. }] => Ok(*code),
                other => panic!("{other:?}"),
            },
            Err(error) => Err(error),
        };
        let tgi = r#"{"error":"Model is overloaded","error_type":"overloaded"}"#;
        assert_eq!(code(tgi), Ok(FailCode::Overloaded));
        let tgi = r#"{"error":{"message":"`inputs` must have less than 1024 tokens. Given: 2000","http_status_code":422}}"#;
        assert_eq!(code(tgi), Ok(FailCode::ContextLengthExceeded));
        let vllm = r#"{"error":{"message":"bad","type":"BadRequestError","param":null,"code":400}}"#;
        assert_eq!(code(vllm), Ok(FailCode::Invalid));
        let azure = r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter"}}"#;
        assert_eq!(code(azure), Ok(FailCode::ContentFilter));
        assert_eq!(code(&azure.replace("content_filter", "content_policy_violation")), Ok(FailCode::ContentFilter));
        assert!(matches!(code(r#"{"error":"CUDA error","error_type":"generation"}"#), Err(BackendError::Failing(_))));
    }

    #[test]
    fn thoughts_are_heard_once_where_a_server_tells_them_twice() {
        let events = take(&[
            r#"{"choices":[{"index":0,"delta":{"reasoning":"Hm","reasoning_content":"Hm"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning":"so"},"finish_reason":"stop"}]}"#,
        ])
        .unwrap();
        let thoughts: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                Event::Reasoning { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(thoughts, ["Hm", "so"]);
    }

    #[test]
    fn what_a_content_filter_cut_off_ends_with_what_was_said() {
        let events = take(&[
            r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{},"finish_reason":"content_filter"}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}"#,
        ])
        .unwrap();
        assert!(matches!(&events[1], Event::Text { text, .. } if text == "Hel"), "{events:?}");
        assert_eq!(events[2], Event::Ended { choice: 1, finish: Finish::ContentFilter });
        let Event::Done { finish: Finish::ContentFilter, usage, .. } = &events[3] else { panic!("{events:?}") };
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (12, 3), "it is paid for");
    }
}

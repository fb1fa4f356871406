//! An upstream's stream of chunks as the events of a completion.

use super::{
    super::{
        backend::{BackendError, EventStream},
        http,
    },
    Upstream,
};
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt, stream};
use reqwest::Response;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use worker_protocol::{Event, Finish, Timings, TokenLogprob, ToolCall, Usage};

/// Completions and calls that one answer may have.
const MOST_PARTS: u32 = 64;

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    error: Option<serde_json::Value>,
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
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
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
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
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

/// The events of an answer that has begun. `estimate`: prompt tokens until the server tells.
pub(super) fn events(response: Response, estimate: u32, upstream: &Upstream) -> EventStream {
    let chunks = response.bytes_stream().map(|chunk| chunk.map_err(http::lost)).eventsource();
    let data = chunks.map(|event| match event {
        Ok(event) => Ok(event.data),
        Err(eventsource_stream::EventStreamError::Transport(error)) => Err(error),
        Err(error) => Err(BackendError::Protocol(error.to_string())),
    });
    follow(data, Answer::new(estimate), upstream.first, upstream.idle).boxed()
}

fn follow(
    data: impl Stream<Item = Result<String, BackendError>> + Send + 'static,
    answer: Answer,
    first: Duration,
    idle: Duration,
) -> impl Stream<Item = Result<Event, BackendError>> + Send {
    let state = (Box::pin(data), answer, VecDeque::new(), first, false);
    stream::unfold(state, move |(mut data, mut answer, mut ready, patience, mut over)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((event, (data, answer, ready, idle, over)));
            }
            if over {
                return None;
            }
            let outcome = match timeout(patience, data.next()).await {
                Err(_) => Err(BackendError::Failing(format!("nothing came for {patience:?}"))),
                Ok(Some(Ok(text))) => answer.take(&text),
                Ok(Some(Err(error))) => Err(error),
                // Some servers close without a last word.
                Ok(None) => answer.finish(),
            };
            match outcome {
                Ok(events) => {
                    over = events.iter().any(|event| matches!(event, Event::Done { .. }));
                    ready.extend(events.into_iter().map(Ok));
                }
                Err(error) => {
                    over = true;
                    ready.push_back(Err(error));
                }
            }
        }
    })
}

/// What has come of an answer.
struct Answer {
    began: Instant,
    first: Option<Instant>,
    usage: Usage,
    announced: bool,
    /// How each completion ended.
    ends: BTreeMap<u32, Finish>,
    /// Calls that are being put together, by completion and number.
    calls: BTreeMap<(u32, u32), ToolCall>,
}

impl Answer {
    fn new(estimate: u32) -> Self {
        Self {
            began: Instant::now(),
            first: None,
            usage: Usage { prompt_tokens: estimate, ..Usage::default() },
            announced: false,
            ends: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }

    fn take(&mut self, data: &str) -> Result<Vec<Event>, BackendError> {
        if data.trim() == "[DONE]" {
            return self.finish();
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| BackendError::Protocol(error.to_string()))?;
        if chunk.error.is_some() {
            return Err(BackendError::Failing("it reported an error in its answer".into()));
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
            self.usage = Usage {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: cached_tokens.min(usage.prompt_tokens),
                completion_tokens: usage.completion_tokens,
            };
        }
        Ok(events)
    }

    fn choice(&mut self, choice: Choice, events: &mut Vec<Event>) -> Result<(), BackendError> {
        let Choice { index, delta, text: raw, finish_reason, logprobs } = choice;
        if index >= MOST_PARTS {
            return Err(BackendError::Protocol(format!("a completion has the number {index}")));
        }
        let text = delta.content.or(raw).filter(|text| !text.is_empty());
        let reasoning = delta.reasoning_content.filter(|text| !text.is_empty());
        if text.is_some() || reasoning.is_some() || delta.tool_calls.is_some() {
            self.first.get_or_insert_with(Instant::now);
            // Servers send a token at a time; how many there were they tell at the end.
            self.usage.completion_tokens += 1;
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
        for part in delta.tool_calls.into_iter().flatten() {
            if part.index >= MOST_PARTS {
                return Err(BackendError::Protocol(format!("a call has the number {}", part.index)));
            }
            let call = self.calls.entry((index, part.index)).or_default();
            call.id.push_str(&part.id.unwrap_or_default());
            let function = part.function.unwrap_or(FunctionDelta { name: None, arguments: None });
            call.name.push_str(&function.name.unwrap_or_default());
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
        if let Some(reason) = finish_reason {
            self.end(index, &reason, events);
        }
        Ok(())
    }

    /// One completion ended; its calls are complete.
    fn end(&mut self, choice: u32, reason: &str, events: &mut Vec<Event>) {
        let calls = std::mem::take(&mut self.calls);
        let (mine, others) = calls.into_iter().partition(|((of, _), _)| *of == choice);
        self.calls = others;
        let mine: BTreeMap<(u32, u32), ToolCall> = mine;
        let finish = match reason {
            "length" => Finish::Length,
            _ if !mine.is_empty() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        let completion_tokens = self.usage.completion_tokens;
        events.extend(mine.into_iter().map(|((_, index), call)| Event::ToolCall { choice, index, call, completion_tokens }));
        if self.ends.insert(choice, finish).is_none() && choice > 0 {
            events.push(Event::Ended { choice, finish });
        }
    }

    fn finish(&mut self) -> Result<Vec<Event>, BackendError> {
        let Some(finish) = self.ends.get(&0) else {
            return Err(BackendError::Lost("the answer ended without a reason".into()));
        };
        let ttft = self.first.map_or_else(|| self.began.elapsed(), |first| first - self.began);
        let timings =
            Timings { queued_ms: 0, prefill_ms: millis(ttft), ttft_ms: millis(ttft), decode_ms: millis(self.began.elapsed() - ttft) };
        Ok(vec![Event::Done { finish: *finish, usage: self.usage, timings }])
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Answer, BackendError, Event, Finish, Usage};

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
        let usage = Usage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 3 };
        assert!(matches!(&events[3], Event::Done { finish: Finish::Stop, usage: told, .. } if *told == usage), "{events:?}");
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
        let Event::ToolCall { call, .. } = &events[1] else { panic!("{events:?}") };
        assert_eq!((call.id.as_str(), call.name.as_str(), call.arguments.as_str()), ("c1", "add", "{\"a\":1}"));
        assert!(matches!(events[2], Event::Done { finish: Finish::ToolCalls, .. }));
    }

    #[test]
    fn an_answer_that_breaks_off_or_reports_an_error_is_none() {
        let half = r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#;
        assert!(matches!(take(&[half]), Err(BackendError::Lost(_))));
        assert!(matches!(take(&[half, r#"{"error":{"message":"boom"}}"#]), Err(BackendError::Failing(_))));
        assert!(matches!(take(&["no JSON"]), Err(BackendError::Protocol(_))));
        assert!(take(&[r#"{"choices":[{"index":4000000000,"delta":{}}]}"#]).is_err());
    }
}

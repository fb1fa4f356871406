//! An answer as it is made: chunks.

use super::{
    Begun, Named,
    answer::{BodyCall, FINGERPRINT, Logprobs, finish_reason},
};
use crate::{failure::Failure, sse, usage::Usage};
use axum::{body::Bytes, response::Response};
use contract::ids::RequestId;
use futures::stream;
use inference::{Ended, Finish, Output};
use serde::Serialize;
use std::collections::VecDeque;

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    /// Outer `None`: the client did not ask for it, and then it must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[BodyCall<'a>; 1]>,
}

struct Streaming {
    begun: Begun,
    id: String,
    named: Named,
    include_usage: bool,
    request: RequestId,
    /// For each choice: how it ended, once it did.
    finished: Vec<Option<Finish>>,
    /// Frames that wait to be sent.
    frames: VecDeque<Bytes>,
    over: bool,
}

/// Sends the answer while it is made. A client that leaves drops the generation, which cancels it.
pub fn respond(begun: Begun, named: Named, choices: u32, include_usage: bool, request: RequestId) -> Response {
    let mut streaming = Streaming {
        begun,
        id: named.id("chatcmpl"),
        named,
        include_usage,
        request,
        finished: vec![None; usize::try_from(choices).unwrap_or(1)],
        frames: VecDeque::new(),
        over: false,
    };
    for index in 0..choices {
        streaming.say(index, Delta { role: Some("assistant"), content: Some(""), ..Delta::default() }, None, None);
    }
    sse::respond(stream::unfold(streaming, |mut streaming| async move {
        let frame = streaming.next().await?;
        Some((frame, streaming))
    }))
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            match self.begun.next().await {
                Some(output) => self.take(output),
                None => self.over = true,
            }
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Queued { .. } | Output::Started { .. } | Output::Vectors { .. } => {}
            Output::Text { choice, text, logprobs } => {
                self.say(choice, Delta { content: Some(&text), ..Delta::default() }, Logprobs::of(&logprobs), None);
            }
            Output::Reasoning { choice, text } => {
                self.say(choice, Delta { reasoning_content: Some(&text), ..Delta::default() }, None, None);
            }
            Output::ToolCall { choice, index, call } => {
                let calls = [BodyCall::of(&call, Some(index))];
                self.say(choice, Delta { tool_calls: Some(calls), ..Delta::default() }, None, None);
            }
            Output::Ended { choice, finish } => {
                if let Some(finished) = usize::try_from(choice).ok().and_then(|at| self.finished.get_mut(at)) {
                    *finished = Some(finish);
                }
            }
            Output::End(ended) => self.end(ended),
        }
    }

    fn end(&mut self, ended: Ended) {
        self.over = true;
        if let Some(error) = ended.error {
            self.frames.push_back(sse::text(&Failure::of(error, self.request).event()));
            return;
        }
        for (index, finish) in (0..).zip(std::mem::take(&mut self.finished)) {
            self.say(index, Delta::default(), None, Some(finish_reason(finish, &ended.stats)));
        }
        if self.include_usage {
            let frame = self.chunk(&[], Some(Some(Usage::from(&ended.stats))));
            self.frames.push_back(frame);
        }
        self.frames.push_back(sse::DONE);
    }

    fn say(&mut self, index: u32, delta: Delta<'_>, logprobs: Option<Logprobs>, finish_reason: Option<&str>) {
        let frame = self.chunk(&[ChunkChoice { index, delta, logprobs, finish_reason }], self.include_usage.then_some(None));
        self.frames.push_back(frame);
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<Option<Usage>>) -> Bytes {
        sse::data(&Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.named.created,
            model: &self.named.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        })
    }
}

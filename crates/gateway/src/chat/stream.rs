//! An answer as it is made: chunks.

use super::{
    Named,
    answer::{BodyCall, FINGERPRINT, Logprobs},
};
use crate::{
    follow::{Finishes, Render, finish_reason},
    sse,
    usage::{Cost, Usage},
};
use axum::body::Bytes;
use inference::{Ended, Finish, Output};
use serde::Serialize;
use std::collections::VecDeque;
use utoipa::ToSchema;

/// What each event holds.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatChunk)]
pub struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    #[schema(value_type = Vec<ChunkChoice<'a>>)]
    choices: &'a [ChunkChoice<'a>],
    /// Outer `None`: the client did not ask for it, and then it must not be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ChatChunkChoice)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    #[schema(required)]
    logprobs: Option<Logprobs>,
    #[schema(required)]
    finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize, ToSchema)]
#[schema(as = ChatDelta)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<BodyCall<'a>>>)]
    tool_calls: Option<[BodyCall<'a>; 1]>,
}

/// See the module.
pub struct Chunks {
    id: String,
    named: Named,
    choices: u32,
    include_usage: bool,
    finishes: Finishes,
}

impl Chunks {
    pub fn new(named: Named, choices: u32, include_usage: bool) -> Self {
        Self { id: named.id("chatcmpl"), named, choices, include_usage, finishes: Finishes::new(choices) }
    }

    fn say(&self, index: u32, delta: Delta<'_>, logprobs: Option<Logprobs>, finish_reason: Option<&str>) -> Bytes {
        self.chunk(&[ChunkChoice { index, delta, logprobs, finish_reason }], self.include_usage.then_some(None))
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

impl Render for Chunks {
    fn begin(&mut self, frames: &mut VecDeque<Bytes>) {
        let role = |index| self.say(index, Delta { role: Some("assistant"), content: Some(""), ..Delta::default() }, None, None);
        frames.extend((0..self.choices).map(role));
    }

    fn take(&mut self, output: Output, frames: &mut VecDeque<Bytes>) {
        frames.extend(match output {
            Output::Text { choice, text, logprobs } => {
                Some(self.say(choice, Delta { content: Some(&text), ..Delta::default() }, Logprobs::of(&logprobs), None))
            }
            Output::Reasoning { choice, text } => {
                Some(self.say(choice, Delta { reasoning_content: Some(&text), ..Delta::default() }, None, None))
            }
            Output::ToolCall { choice, index, call } => {
                let calls = [BodyCall::of(&call, Some(index))];
                Some(self.say(choice, Delta { tool_calls: Some(calls), ..Delta::default() }, None, None))
            }
            _ => None,
        });
    }

    fn ended(&mut self, choice: u32, finish: Finish, _: &mut VecDeque<Bytes>) {
        self.finishes.note(choice, finish);
    }

    fn end(&mut self, ended: &Ended, cost: Cost, frames: &mut VecDeque<Bytes>) {
        let last = |(index, finish)| self.say(index, Delta::default(), None, Some(finish_reason(finish, &ended.stats)));
        frames.extend(self.finishes.iter().map(last));
        if self.include_usage {
            frames.push_back(self.chunk(&[], Some(Some(Usage::of(&ended.stats, cost)))));
        }
        frames.push_back(sse::DONE);
    }
}

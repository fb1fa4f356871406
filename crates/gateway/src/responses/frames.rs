//! Events of a stream of responses, with their names and numbers.

use super::body::{Body, BodyItem, Part};
use crate::sse;
use axum::body::Bytes;
use serde::Serialize;
use std::collections::VecDeque;

#[derive(Serialize)]
struct Numbered<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    rest: T,
}

/// All of a response.
#[derive(Serialize)]
pub struct Whole<'a> {
    pub response: Body<'a>,
}

/// An item begins or ends.
#[derive(Serialize)]
pub struct OfItem<'a> {
    pub output_index: usize,
    pub item: BodyItem<'a>,
}

/// A part of an item's content begins or ends.
#[derive(Serialize)]
pub struct OfPart<'a> {
    pub item_id: &'a str,
    pub output_index: usize,
    pub content_index: usize,
    pub part: Part<'a>,
}

/// A text, a thought or the arguments of a call go on.
#[derive(Serialize)]
pub struct Delta<'a> {
    pub item_id: &'a str,
    pub output_index: usize,
    /// Arguments of a call are no part of any content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_index: Option<usize>,
    pub delta: &'a str,
    /// Texts have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<[(); 0]>,
}

/// A text or a thought is complete.
#[derive(Serialize)]
pub struct TextDone<'a> {
    pub item_id: &'a str,
    pub output_index: usize,
    pub content_index: usize,
    pub text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<[(); 0]>,
}

/// The arguments of a call are complete.
#[derive(Serialize)]
pub struct ArgumentsDone<'a> {
    pub item_id: &'a str,
    pub output_index: usize,
    pub name: &'a str,
    pub arguments: &'a str,
}

/// There is no more, although there should be.
#[derive(Serialize)]
pub struct Broken {
    pub code: &'static str,
    pub message: &'static str,
    pub param: Option<()>,
}

/// Frames on their way out.
pub struct Out {
    /// Number of the next event.
    next: u64,
    after: Option<u64>,
    pub frames: VecDeque<Bytes>,
}

impl Out {
    /// For a client that has seen the events up to number `after`.
    pub fn new(after: Option<u64>) -> Self {
        Self { next: 0, after, frames: VecDeque::new() }
    }

    /// An event. It is counted, and sent to those who have not seen it.
    pub fn tell(&mut self, kind: &'static str, rest: impl Serialize) {
        let sequence_number = self.next;
        self.next += 1;
        if self.after.is_none_or(|after| sequence_number > after) {
            self.frames.push_back(sse::named(kind, &Numbered { kind, sequence_number, rest }));
        }
    }

    /// The last event has all of the response: everybody gets it, also who was told more than is known any more.
    pub fn tell_last(&mut self, kind: &'static str, rest: impl Serialize) {
        self.next = self.after.map_or(self.next, |after| self.next.max(after.saturating_add(1)));
        self.tell(kind, rest);
    }
}

//! An answer as it is kept, and how it comes to be kept.

use super::{PARTS, Place, flights::Flight};
use crate::generation::{Ended, Outcome, Output};
use contract::chat::AnswerStats;
use std::fmt;
use worker_protocol::{Finish, TokenLogprob, ToolCall};

/// All that an answer said.
#[derive(Debug)]
pub(crate) struct Answer {
    parts: Vec<Part>,
    stats: AnswerStats,
    stop: Option<String>,
}

/// Outputs of one kind that follow each other, put together.
#[derive(Clone, Debug)]
enum Part {
    Started { prompt_tokens: u32, cached_tokens: u32 },
    Text { choice: u32, text: String, logprobs: Vec<TokenLogprob> },
    Reasoning { choice: u32, text: String },
    ToolCall { choice: u32, index: u32, call: Box<ToolCall> },
    Vectors { first: u32, vectors: Vec<Vec<f32>> },
    Ended { choice: u32, finish: Finish },
}

/// Listens along while an answer is made, and keeps it if it is whole. Dropped before, nothing is kept; those that wait for
/// the same answer go on either way.
pub(crate) struct Recording {
    place: Box<Place>,
    flight: Option<Flight>,
    parts: Vec<Part>,
    bytes: usize,
    /// It became too large to be kept.
    over: bool,
}

impl Answer {
    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let words = [Some(&self.stats.model), Some(&self.stats.finish_reason), self.stop.as_ref()];
        self.parts.iter().map(Part::bytes).sum::<usize>() + words.into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// The same as from a model, with the end.
    pub(crate) fn outputs(&self) -> Vec<Output> {
        let stats = AnswerStats { ttft_ms: 0, duration_ms: 0, ..self.stats.clone() };
        let end = Output::End(Box::new(Ended { outcome: Outcome::Ok, stats, stop: self.stop.clone(), error: None }));
        self.parts.iter().cloned().map(Output::from).chain([end]).collect()
    }

    /// Nothing but this.
    #[cfg(test)]
    pub(super) fn of_text(text: &str) -> Self {
        Self { parts: vec![Part::Text { choice: 0, text: text.into(), logprobs: Vec::new() }], stats: AnswerStats::default(), stop: None }
    }
}

impl Recording {
    pub(super) fn new(place: Box<Place>, flight: Option<Flight>) -> Self {
        Self { place, flight, parts: Vec::new(), bytes: 0, over: false }
    }

    /// The answer goes on with this.
    pub(crate) fn take(&mut self, output: &Output) {
        if self.over {
            return;
        }
        let Some(part) = Part::of(output) else { return };
        self.bytes += part.bytes();
        if self.bytes > self.place.terms.share / PARTS {
            // Nobody needs to wait for what will not be there.
            (self.over, self.parts, self.flight) = (true, Vec::new(), None);
            return;
        }
        self.add(part);
    }

    fn add(&mut self, part: Part) {
        let last = match part.choice() {
            Some(choice) => self.parts.iter_mut().rev().find(|last| last.choice() == Some(choice)),
            None => None,
        };
        let rest = match last {
            Some(last) => last.join(part),
            None => Some(part),
        };
        self.parts.extend(rest);
    }

    /// Whoever asked for it takes it more slowly than it is made: those that wait for the same answer go on without it.
    pub(crate) fn let_go(&mut self) {
        self.flight = None;
    }

    /// The answer is over. It is kept if it came to its end, no filter cut any of it off, and the model that was asked for made
    /// it.
    pub(crate) fn end(self, ended: &Ended) {
        let whole = matches!(ended.stats.finish_reason.as_str(), "stop" | "length" | "tool_calls");
        let ok = ended.outcome == Outcome::Ok && ended.error.is_none() && ended.stats.model == self.place.model;
        if ok && whole && !self.over && !self.is_filtered() && self.has_all_vectors() {
            let Self { place, mut parts, flight, .. } = self;
            parts.iter_mut().for_each(Part::shrink);
            parts.shrink_to_fit();
            place.keep(Answer { parts, stats: ended.stats.clone(), stop: ended.stop.clone() });
            // Only now others find it.
            drop(flight);
        }
    }

    /// The end that the figures tell is that of the first completion alone.
    fn is_filtered(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Ended { finish: Finish::ContentFilter, .. }))
    }

    fn has_all_vectors(&self) -> bool {
        let mut there = vec![false; self.place.vectors];
        for part in &self.parts {
            if let Part::Vectors { first, vectors } = part {
                let first = usize::try_from(*first).unwrap_or(usize::MAX);
                there.iter_mut().skip(first).zip(vectors).for_each(|(there, vector)| *there |= !vector.is_empty());
            }
        }
        there.into_iter().all(|there| there)
    }
}

/// Without a word of it.
impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("bytes", &self.bytes).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Part {
    fn of(output: &Output) -> Option<Self> {
        Some(match output {
            Output::Started { prompt_tokens, cached_tokens } => {
                Self::Started { prompt_tokens: *prompt_tokens, cached_tokens: *cached_tokens }
            }
            Output::Text { choice, text, logprobs } => Self::Text { choice: *choice, text: text.clone(), logprobs: logprobs.clone() },
            Output::Reasoning { choice, text } => Self::Reasoning { choice: *choice, text: text.clone() },
            Output::ToolCall { choice, index, call } => Self::ToolCall { choice: *choice, index: *index, call: call.clone() },
            Output::Vectors { first, vectors } => Self::Vectors { first: *first, vectors: vectors.clone() },
            Output::Ended { choice, finish } => Self::Ended { choice: *choice, finish: *finish },
            // Nobody waits for what is there, and an end is told with its figures.
            Output::Queued { .. } | Output::End(_) => return None,
        })
    }

    /// Goes on with this, or gives it back if it is of another kind.
    fn join(&mut self, more: Self) -> Option<Self> {
        match (self, more) {
            (Self::Text { text, logprobs, .. }, Self::Text { text: more, logprobs: of_more, .. }) => {
                text.push_str(&more);
                logprobs.extend(of_more);
                None
            }
            (Self::Reasoning { text, .. }, Self::Reasoning { text: more, .. }) => {
                text.push_str(&more);
                None
            }
            (_, other) => Some(other),
        }
    }

    /// Which completion it belongs to.
    fn choice(&self) -> Option<u32> {
        match self {
            Self::Text { choice, .. } | Self::Reasoning { choice, .. } | Self::ToolCall { choice, .. } | Self::Ended { choice, .. } => {
                Some(*choice)
            }
            Self::Started { .. } | Self::Vectors { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        let said = match self {
            Self::Text { text, logprobs, .. } => text.len() + logprobs.iter().map(bytes_of_logprob).sum::<usize>(),
            Self::Reasoning { text, .. } => text.len(),
            Self::ToolCall { call, .. } => size_of::<ToolCall>() + call.id.len() + call.name.len() + call.arguments.len(),
            Self::Vectors { vectors, .. } => vectors.iter().map(|vector| size_of_val(&vector[..]) + size_of::<Vec<f32>>()).sum(),
            Self::Started { .. } | Self::Ended { .. } => 0,
        };
        said + size_of::<Self>()
    }

    /// Gives back what was set aside for more.
    fn shrink(&mut self) {
        match self {
            Self::Text { text, logprobs, .. } => {
                text.shrink_to_fit();
                logprobs.shrink_to_fit();
            }
            Self::Reasoning { text, .. } => text.shrink_to_fit(),
            _ => {}
        }
    }
}

fn bytes_of_logprob(token: &TokenLogprob) -> usize {
    size_of::<TokenLogprob>() + token.bytes.len() + token.top.iter().map(bytes_of_logprob).sum::<usize>()
}

impl From<Part> for Output {
    fn from(part: Part) -> Self {
        match part {
            Part::Started { prompt_tokens, cached_tokens } => Self::Started { prompt_tokens, cached_tokens },
            Part::Text { choice, text, logprobs } => Self::Text { choice, text, logprobs },
            Part::Reasoning { choice, text } => Self::Reasoning { choice, text },
            Part::ToolCall { choice, index, call } => Self::ToolCall { choice, index, call },
            Part::Vectors { first, vectors } => Self::Vectors { first, vectors },
            Part::Ended { choice, finish } => Self::Ended { choice, finish },
        }
    }
}

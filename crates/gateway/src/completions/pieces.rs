//! Texts as they are made: chunks.

use super::{Body, BodyChoice, Echo, Logprobs, WORDS};
use crate::{
    chat::{Named, answer::FINGERPRINT},
    failure::Failure,
    follow::Render,
    sse,
    usage::{Cost, Usage},
};
use axum::body::Bytes;
use inference::{Ended, Finish, Output, TokenLogprob};
use std::{collections::VecDeque, mem::take};

/// See the module.
pub struct Pieces {
    id: String,
    named: Named,
    include_usage: bool,
    echo: Echo,
    /// How far each text came, in characters.
    lengths: Vec<usize>,
}

impl Pieces {
    /// `choices`: of all prompts together.
    pub fn new(named: Named, choices: u32, include_usage: bool, echo: Echo) -> Self {
        let lengths = vec![0; usize::try_from(choices).unwrap_or(1)];
        Self { id: named.id("cmpl"), named, include_usage, echo, lengths }
    }

    fn say(&mut self, index: u32, text: &str, logprobs: &[TokenLogprob], finish_reason: Option<&str>) -> Option<Bytes> {
        let length = usize::try_from(index).ok().and_then(|at| self.lengths.get_mut(at))?;
        let logprobs = Logprobs::of(logprobs, *length);
        *length += text.chars().count();
        Some(self.piece(vec![BodyChoice { text, index, logprobs, finish_reason }], self.include_usage.then_some(None)))
    }

    fn piece(&self, choices: Vec<BodyChoice<'_>>, usage: Option<Option<Usage>>) -> Bytes {
        sse::data(&Body {
            id: &self.id,
            object: "text_completion",
            created: self.named.created,
            model: &self.named.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        })
    }
}

impl Render for Pieces {
    fn begin(&mut self, frames: &mut VecDeque<Bytes>) {
        let echo = take(&mut self.echo);
        for (index, _) in (0..).zip(self.lengths.clone()) {
            let prompt = echo.before(index);
            if !prompt.is_empty() {
                frames.extend(self.say(index, prompt, &[], None));
            }
        }
    }

    fn take(&mut self, output: Output, frames: &mut VecDeque<Bytes>) {
        if let Output::Text { choice, text, logprobs } = output {
            frames.extend(self.say(choice, &text, &logprobs, None));
        }
    }

    fn ended(&mut self, choice: u32, finish: Finish, frames: &mut VecDeque<Bytes>) {
        frames.extend(self.say(choice, "", &[], Some(finish.name())));
    }

    /// Each text has told its end before.
    fn end(&mut self, ended: &Ended, cost: Cost, frames: &mut VecDeque<Bytes>) {
        if self.include_usage {
            frames.push_back(self.piece(Vec::new(), Some(Some(Usage::of(&ended.stats, cost)))));
        }
        frames.push_back(sse::DONE);
    }

    fn fail(&mut self, failure: &Failure, frames: &mut VecDeque<Bytes>) {
        frames.push_back(sse::text(&WORDS.tell(failure.clone()).event()));
    }
}

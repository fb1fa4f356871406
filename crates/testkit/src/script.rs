//! What a fake worker is told to do.

use std::{collections::VecDeque, time::Duration};
use worker_protocol::{Event, FailCode, Finish, ToolCall, Usage};

/// What a fake worker does with one request.
#[derive(Clone, Debug)]
pub struct Script {
    places: Vec<u32>,
    prompt_tokens: u32,
    cached_tokens: u32,
    thoughts: Vec<String>,
    tokens: Vec<String>,
    calls: Vec<ToolCall>,
    /// Says that it has begun.
    begins: bool,
    pub(crate) delay: Duration,
    pub(crate) stop: Option<String>,
    pub(crate) end: ScriptEnd,
    /// What a failure says.
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ScriptEnd {
    Done(Finish),
    Failed(FailCode),
    DropConnection,
    Hang,
}

impl Script {
    /// Answers with this text, one token for each word, then stops. 12 prompt tokens, 4 of them cached.
    #[must_use]
    pub fn answer(text: &str) -> Self {
        Self {
            places: Vec::new(),
            prompt_tokens: 12,
            cached_tokens: 4,
            thoughts: Vec::new(),
            tokens: words(text),
            calls: Vec::new(),
            begins: true,
            delay: Duration::ZERO,
            stop: None,
            end: ScriptEnd::Done(Finish::Stop),
            reason: "as scripted".into(),
        }
    }

    /// Has no room.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::refuses(FailCode::Overloaded)
    }

    /// Refuses before anything is computed.
    #[must_use]
    pub fn refuses(code: FailCode) -> Self {
        Self { end: ScriptEnd::Failed(code), prompt_tokens: 0, cached_tokens: 0, ..Self::answer("") }
    }

    /// Says this of its failure.
    #[must_use]
    pub fn because(self, reason: &str) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// Thinks this before it answers, one token for each word.
    #[must_use]
    pub fn thinks(self, text: &str) -> Self {
        Self { thoughts: words(text), ..self }
    }

    /// Calls this function after what it says, as `call_<number>` from 0, and ends with that.
    #[must_use]
    pub fn calls(mut self, name: &str, arguments: &str) -> Self {
        self.calls.push(ToolCall { id: format!("call_{}", self.calls.len()), name: name.into(), arguments: arguments.into() });
        Self { end: ScriptEnd::Done(Finish::ToolCalls), ..self }
    }

    /// Reports these places in the queue first.
    #[must_use]
    pub fn queued(self, places: &[u32]) -> Self {
        Self { places: places.to_vec(), ..self }
    }

    /// Waits before each token.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Reports this prompt.
    #[must_use]
    pub fn prompt(self, prompt_tokens: u32, cached_tokens: u32) -> Self {
        Self { prompt_tokens, cached_tokens, ..self }
    }

    /// Ends at `max_tokens` instead of a stop.
    #[must_use]
    pub fn ends_by_length(self) -> Self {
        Self { end: ScriptEnd::Done(Finish::Length), ..self }
    }

    /// Is ended by this stop text.
    #[must_use]
    pub fn ends_by_stop_text(self, text: &str) -> Self {
        Self { stop: Some(text.into()), ..self }
    }

    /// Is ended by a content filter, as servers of others have one.
    #[must_use]
    pub fn ends_filtered(self) -> Self {
        Self { end: ScriptEnd::Done(Finish::ContentFilter), ..self }
    }

    /// Reports a failure after `tokens` tokens.
    #[must_use]
    pub fn fails_after(self, tokens: usize, code: FailCode) -> Self {
        self.cut(tokens, ScriptEnd::Failed(code))
    }

    /// Breaks the connection after `tokens` tokens, as a worker that died.
    #[must_use]
    pub fn drops_after(self, tokens: usize) -> Self {
        self.cut(tokens, ScriptEnd::DropConnection)
    }

    /// Breaks the connection while the request still waits.
    #[must_use]
    pub fn drops_in_the_queue(self) -> Self {
        Self { begins: false, ..self.drops_after(0) }
    }

    /// Says nothing more after `tokens` tokens, until it is cancelled.
    #[must_use]
    pub fn hangs_after(self, tokens: usize) -> Self {
        self.cut(tokens, ScriptEnd::Hang)
    }

    fn cut(mut self, tokens: usize, end: ScriptEnd) -> Self {
        self.tokens.truncate(tokens);
        Self { end, ..self }
    }

    /// The same, saying nothing.
    pub(crate) fn without_text(self) -> Self {
        Self { tokens: Vec::new(), ..self }
    }

    pub(crate) fn is_refusal(&self) -> bool {
        self.tokens.is_empty() && self.prompt_tokens == 0 && matches!(self.end, ScriptEnd::Failed(_))
    }

    /// The lines before the last one, with the pause before each.
    pub(crate) fn steps(&self) -> VecDeque<(Duration, Event)> {
        let mut steps: VecDeque<_> = self.places.iter().map(|place| (self.delay, Event::Queued { place: *place, wait_ms: None })).collect();
        if self.begins && !self.is_refusal() {
            let (prompt_tokens, cached_tokens) = (self.prompt_tokens, self.cached_tokens);
            steps.push_back((Duration::ZERO, Event::Started { prompt_tokens, cached_tokens }));
        }
        let mut completion_tokens = 0;
        let mut say = |event: &dyn Fn(u32) -> Event| {
            completion_tokens += 1;
            steps.push_back((self.delay, event(completion_tokens)));
        };
        for text in &self.thoughts {
            say(&|completion_tokens| Event::Reasoning { choice: 0, text: text.clone(), completion_tokens });
        }
        for text in &self.tokens {
            say(&|completion_tokens| Event::Text { choice: 0, text: text.clone(), completion_tokens, logprobs: Vec::new() });
        }
        for (index, call) in (0..).zip(&self.calls) {
            say(&|completion_tokens| Event::ToolCall { choice: 0, index, call: call.clone(), completion_tokens });
        }
        steps
    }

    pub(crate) fn usage(&self) -> Usage {
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: count(self.thoughts.len() + self.tokens.len() + self.calls.len()),
            reasoning_tokens: count(self.thoughts.len()),
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

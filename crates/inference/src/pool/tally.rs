//! Whether a worker's own counters agree with what was heard of its answers, which is what the ledger gets (ADR 14).
//!
//! They are compared whenever the worker rests: nothing of this process runs on it, nothing was begun while it was asked, and
//! it says so itself. Where the last counters of an answer were not heard (the connection broke, nobody could wait), the
//! difference is explained by that. A process that ended takes its counters along: the next one is compared from its start.

use worker_protocol::{Event, Status, Totals, Usage};

/// Tokens of prompts (cached ones included) and of completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

impl Tokens {
    fn of(totals: &Totals) -> Self {
        Self { prompt: totals.prompt_tokens, completion: totals.completion_tokens }
    }

    /// `None` if that is no later moment of the same counters.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self { prompt: self.prompt.checked_sub(before.prompt)?, completion: self.completion.checked_sub(before.completion)? })
    }

    fn add(&mut self, more: Self) {
        self.prompt += more.prompt;
        self.completion += more.completion;
    }

    /// By how many tokens they differ, of prompts and of completions.
    fn apart(self, other: Self) -> u64 {
        self.prompt.abs_diff(other.prompt) + self.completion.abs_diff(other.completion)
    }
}

/// What all comparisons of a worker came to, since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// By the worker's own counters.
    pub counted: Tokens,
    /// In its answers.
    pub heard: Tokens,
    /// Tokens by which they differ, where an answer's last counters were not heard.
    pub cut: u64,
    /// Tokens by which they differ without that. If it is not 0, the ledger has too much or too little.
    pub drift: u64,
}

impl Reconciled {
    pub(super) fn add(&mut self, more: Self) {
        self.counted.add(more.counted);
        self.heard.add(more.heard);
        self.cut += more.cut;
        self.drift += more.drift;
    }

    /// What was added since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let (counted, heard) = (self.counted.since(before.counted), self.heard.since(before.heard));
        let (cut, drift) = (self.cut.checked_sub(before.cut), self.drift.checked_sub(before.drift));
        match (counted, heard, cut, drift) {
            (Some(counted), Some(heard), Some(cut), Some(drift)) => Self { counted, heard, cut, drift },
            // One that had left, was forgotten and joined anew under the same name.
            _ => *self,
        }
    }
}

/// The life of an answer of a process that is gone already.
pub(super) const PAST: u64 = u64::MAX;

/// What one answer was heard to have cost.
#[derive(Debug, Default)]
pub(super) struct Heard {
    tokens: Tokens,
    /// Its last counters were heard.
    whole: bool,
}

impl Heard {
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, .. } => self.tokens.prompt = u64::from(*prompt_tokens),
            Event::Text { completion_tokens, .. }
            | Event::Reasoning { completion_tokens, .. }
            | Event::ToolCall { completion_tokens, .. } => self.tokens.completion = u64::from(*completion_tokens),
            Event::Done { usage, .. } | Event::Failed { usage, .. } => {
                let Usage { prompt_tokens, completion_tokens, .. } = *usage;
                *self = Self { tokens: Tokens { prompt: prompt_tokens.into(), completion: completion_tokens.into() }, whole: true };
            }
            Event::Queued { .. } | Event::Vectors { .. } | Event::Ended { .. } => {}
        }
    }
}

/// A moment at which nothing of this process runs on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    life: u64,
    begun: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Counts the processes that were one after the other behind the same member.
    life: u64,
    /// Answers begun in this life, and those of them that are not over.
    begun: u64,
    running: u64,
    /// Since the last comparison.
    heard: Tokens,
    cut: bool,
    /// The worker's counters at the last comparison.
    base: Option<Tokens>,
    all: Reconciled,
}

impl Tally {
    /// Another process is there, with counters of its own.
    pub(super) fn anew(&mut self) {
        *self = Self { life: self.life + 1, all: self.all, ..Self::default() };
    }

    /// An answer begins. Returns the life that it belongs to.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.running += 1;
        self.life
    }

    pub(super) fn end(&mut self, life: u64, heard: &Heard) {
        if life == self.life {
            self.running -= 1;
            self.heard.add(heard.tokens);
            self.cut |= !heard.whole;
        }
    }

    pub(super) fn rest(&self) -> Option<Rest> {
        (self.running == 0).then_some(Rest { life: self.life, begun: self.begun })
    }

    pub(super) fn all(&self) -> Reconciled {
        self.all
    }

    /// Compares, if the worker rests; `before` is how it was when the worker was asked. Returns the drift that is new.
    pub(super) fn compare(&mut self, before: Option<Rest>, status: &Status) -> u64 {
        let counted = Tokens::of(&status.totals);
        if self.base.is_some_and(|base| counted.since(base).is_none()) {
            self.anew();
            return 0;
        }
        if before.is_none() || before != self.rest() || status.busy > 0 || status.queued > 0 {
            return 0;
        }
        let (heard, cut) = (std::mem::take(&mut self.heard), std::mem::take(&mut self.cut));
        let Some(counted) = self.base.replace(counted).and_then(|base| counted.since(base)) else { return 0 };
        self.all.counted.add(counted);
        self.all.heard.add(heard);
        let (apart, total) = (counted.apart(heard), if cut { &mut self.all.cut } else { &mut self.all.drift });
        *total += apart;
        if cut { 0 } else { apart }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, Reconciled, Tally, Tokens};
    use worker_protocol::{Event, FailCode, PROTOCOL, State, Status, Totals, Usage};

    fn status(busy: u32, prompt_tokens: u64, completion_tokens: u64) -> Status {
        let totals = Totals { prompt_tokens, completion_tokens, ..Totals::default() };
        Status { protocol: PROTOCOL, state: State::Ready, models: Vec::new(), busy, queued: 0, stuck_ms: 0, totals, devices: Vec::new() }
    }

    fn heard(prompt_tokens: u32, completion_tokens: u32, whole: bool) -> Heard {
        let mut heard = Heard::default();
        heard.hear(&Event::Started { prompt_tokens, cached_tokens: 0 });
        heard.hear(&Event::Text { choice: 0, text: "x".into(), completion_tokens, logprobs: Vec::new() });
        if whole {
            let usage = Usage { prompt_tokens, completion_tokens, ..Usage::default() };
            heard.hear(&Event::Failed { code: FailCode::Engine, message: String::new(), usage });
        }
        heard
    }

    fn poll(tally: &mut Tally, status: &Status) -> u64 {
        let before = tally.rest();
        tally.compare(before, status)
    }

    #[test]
    fn what_is_heard_and_counted_agrees() {
        let mut tally = Tally::default();
        // It ran before this process began.
        assert_eq!(poll(&mut tally, &status(0, 1_000, 500)), 0);
        let life = tally.begin();
        assert_eq!(poll(&mut tally, &status(1, 1_010, 503)), 0, "it works");
        let before = tally.rest();
        tally.end(life, &heard(10, 7, true));
        assert_eq!(tally.compare(before, &status(0, 1_010, 507)), 0, "an answer that ended meanwhile: no moment of rest");
        assert_eq!(tally.all(), Reconciled::default());
        assert_eq!(poll(&mut tally, &status(0, 1_010, 507)), 0);
        let both = Tokens { prompt: 10, completion: 7 };
        assert_eq!(tally.all(), Reconciled { counted: both, heard: both, cut: 0, drift: 0 });
    }

    #[test]
    fn a_difference_is_drift_unless_an_answer_was_cut() {
        let mut tally = Tally::default();
        poll(&mut tally, &status(0, 0, 0));
        let life = tally.begin();
        tally.end(life, &heard(10, 7, true));
        assert_eq!(poll(&mut tally, &status(0, 12, 6)), 3, "too little of one and too much of the other do not cancel out");
        let life = tally.begin();
        tally.end(life, &heard(10, 7, false));
        assert_eq!(poll(&mut tally, &status(0, 22, 15)), 0);
        assert_eq!((tally.all().cut, tally.all().drift), (2, 3));
    }

    #[test]
    fn every_life_is_compared_by_itself() {
        let mut tally = Tally::default();
        poll(&mut tally, &status(0, 100, 100));
        let old = tally.begin();
        // The next process is there before the old one's answer is over.
        tally.anew();
        poll(&mut tally, &status(0, 0, 0));
        tally.end(old, &heard(10, 7, true));
        assert_eq!(poll(&mut tally, &status(0, 0, 0)), 0);
        // Behind the same address another one, noticed by its counters alone.
        let life = tally.begin();
        tally.end(life, &heard(50, 50, true));
        poll(&mut tally, &status(0, 50, 50));
        assert_eq!(poll(&mut tally, &status(0, 3, 3)), 0);
        assert_eq!(poll(&mut tally, &status(0, 3, 3)), 0);
        assert_eq!((tally.all().drift, tally.all().counted.prompt), (0, 50));
    }
}

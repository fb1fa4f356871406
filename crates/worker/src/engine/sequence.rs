//! One running completion.

use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use uuid::Uuid;
use worker_protocol::{Event, FailCode, Finish, Timings, TokenLogprob, Usage};

use super::batch::schedule::Need;
use super::choice::Choice;
use super::drafts::Drafter;
use super::queue::flows::Flow;
use super::{Job, Link};
use crate::constraint::Constraint;
use crate::sampling::Sampler;
use crate::shared::Admission;
use crate::text::{Characters, StopFilter};
use crate::tools::Part;

/// What the model chose next.
pub enum Next<'a> {
    /// The end of the answer.
    End,
    /// A token and its bytes.
    Token(LlamaToken, &'a [u8]),
}

/// A completion that has begun.
pub struct Sequence {
    pub id: Uuid,
    /// llama.cpp's number; without meaning while it is paused.
    pub seq: usize,
    pub partition: String,
    pub flow: Flow,
    pub weight: u16,
    pub arrived: Instant,
    pub sampler: Sampler,
    pub choice: Choice,
    number: Option<u32>,
    /// Calls that were sent.
    calls: u32,
    pub drafter: Drafter,
    /// Tokens of the prompt to be pinned once they are computed.
    pub pinned: usize,
    /// The prompt and what was chosen since; the last one is to be computed next.
    tokens: Vec<LlamaToken>,
    /// How many of `tokens` are computed.
    done: usize,
    usage: Usage,
    characters: Characters,
    stop: StopFilter,
    /// The stop text that came.
    stopped_by: Option<String>,
    /// Of tokens whose text was not sent yet.
    logprobs: Vec<TokenLogprob>,
    link: Link,
    clock: Stopwatch,
    _admission: Admission,
}

/// The moments that [`Timings`] are made from.
struct Stopwatch {
    arrived: Instant,
    started: Instant,
    first_token: Option<Instant>,
}

impl Sequence {
    /// Begins as llama.cpp's sequence `seq`, which has the first `reused` tokens of the prompt already.
    pub fn start(job: Job, seq: usize, reused: usize) -> Self {
        let usage = Usage { prompt_tokens: count(job.prompt.len()), cached_tokens: count(reused), ..Usage::default() };
        // What the other completions of a prompt find was computed for the first one.
        let known = reused >= job.pinned && job.number.is_none_or(|number| number == 0);
        let pinned = if known || !job.pin_known_only { job.pinned } else { 0 };
        let sequence = Self {
            id: job.id,
            seq,
            partition: job.partition,
            flow: job.flow,
            weight: job.weight,
            arrived: job.arrived,
            sampler: Sampler::new(job.params),
            drafter: Drafter::new(job.choice.speculate),
            choice: job.choice,
            number: job.number,
            calls: 0,
            pinned,
            tokens: job.prompt,
            done: reused,
            usage,
            characters: Characters::new(),
            stop: StopFilter::new(job.stop),
            stopped_by: None,
            logprobs: Vec::new(),
            link: job.link,
            clock: Stopwatch { arrived: job.arrived, started: Instant::now(), first_token: None },
            _admission: job.admission,
        };
        sequence.link.send(Event::Started { prompt_tokens: usage.prompt_tokens, cached_tokens: usage.cached_tokens });
        sequence
    }

    /// Goes on after a pause as sequence `seq`, which still has the first `reused` tokens.
    pub fn resume(&mut self, seq: usize, reused: usize) {
        self.seq = seq;
        self.done = reused;
    }

    /// Everything so far, the last token not being computed yet.
    pub fn tokens(&self) -> &[LlamaToken] {
        &self.tokens
    }

    /// How many of [`Sequence::tokens`] are computed.
    pub fn done(&self) -> usize {
        self.done
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Nobody wants it any more.
    pub fn cancelled(&self) -> bool {
        self.link.is_cancelled()
    }

    pub fn need(&self) -> Need {
        match (self.tokens.len() - self.done, self.clock.first_token) {
            (1, Some(_)) => Need::Decode,
            (missing, _) => Need::Prefill(missing),
        }
    }

    /// The next `n` tokens to compute, and whether the scores after the last one are wanted.
    pub fn next(&self, n: usize) -> (&[LlamaToken], bool) {
        let end = (self.done + n).min(self.tokens.len());
        (&self.tokens[self.done..end], n > 0 && end == self.tokens.len())
    }

    /// `n` more tokens are computed.
    pub fn advance(&mut self, n: usize) {
        self.done = (self.done + n).min(self.tokens.len());
    }

    /// What may come next, see [`Drafter::guess`].
    pub fn guess(&mut self, price: f64, room: usize) -> Vec<LlamaToken> {
        self.drafter.guess(&self.tokens, price, room)
    }

    /// The log-probability of the token that is accepted next.
    pub fn note(&mut self, logprob: TokenLogprob) {
        self.logprobs.push(logprob);
    }

    /// Takes what the model chose and sends what can be sent of it. `Some` when the completion is complete;
    /// `context` is the length that prompt and completion have together at most.
    ///
    /// # Errors
    /// The token does not fit what the completion must match, which does not happen unless that gave up.
    pub fn accept(&mut self, next: &Next<'_>, context: u32) -> Result<Option<Finish>, String> {
        self.clock.first_token.get_or_insert_with(Instant::now);
        let (token, bytes) = match next {
            Next::End => return Ok(Some(Finish::Stop)),
            Next::Token(token, bytes) => (*token, *bytes),
        };
        self.usage.completion_tokens += 1;
        if self.choice.parser.as_ref().is_some_and(|parser| parser.thinks()) {
            self.usage.reasoning_tokens += 1;
        }
        self.sampler.accept(token.0);
        self.tokens.push(token);
        if let Some(constraint) = &mut self.choice.constraint {
            constraint.accept(token)?;
        }
        let passed = self.stop.push(&self.characters.push(bytes));
        self.pass(passed.text);
        self.stopped_by = passed.stop;
        if self.stopped_by.is_some()
            || (self.choice.single_call && self.calls > 0)
            || self.choice.constraint.as_ref().is_some_and(Constraint::is_complete)
        {
            return Ok(Some(Finish::Stop));
        }
        let limit = self.sampler.params().max_tokens.unwrap_or(u32::MAX);
        let full = self.usage.prompt_tokens + self.usage.completion_tokens >= context;
        Ok((self.usage.completion_tokens >= limit || full).then_some(Finish::Length))
    }

    /// Ends well.
    pub fn finish(mut self, finish: Finish) {
        let held = self.stop.finish();
        self.pass(held);
        let rest = self.choice.parser.as_mut().map(|parser| parser.finish()).unwrap_or_default();
        self.send_parts(rest);
        let finish = if finish == Finish::Stop && self.calls > 0 { Finish::ToolCalls } else { finish };
        if let Some(choice) = self.number {
            self.link.send(Event::Ended { choice, finish });
        }
        let stop = self.stopped_by.take().filter(|_| finish == Finish::Stop);
        let timings = self.clock.timings();
        tracing::debug!(id = %self.id, ?finish, usage = ?self.usage, ?timings, "completion ended");
        self.link.send(Event::Done { finish, stop, usage: self.usage, timings });
    }

    /// Ends badly.
    pub fn fail(self, code: FailCode, message: String) {
        tracing::debug!(id = %self.id, ?code, message, usage = ?self.usage, "completion failed");
        if let Some(choice) = self.number {
            // Tokens whose text was never sent count as well.
            self.link.send(Event::Text {
                choice,
                text: String::new(),
                completion_tokens: self.usage.completion_tokens,
                logprobs: Vec::new(),
            });
        }
        self.link.send(Event::Failed { code, message, usage: self.usage });
    }

    /// It is the only completion of its prompt, or the first one.
    pub fn is_first(&self) -> bool {
        self.number.unwrap_or(0) == 0
    }

    /// Sends what can be sent after some more text.
    fn pass(&mut self, text: String) {
        match &mut self.choice.parser {
            Some(parser) => {
                let parts = parser.push(&text);
                self.send_parts(parts);
            }
            None => self.send_parts(vec![Part::Text(text)]),
        }
    }

    fn send_parts(&mut self, parts: Vec<Part>) {
        let (choice, completion_tokens) = (self.number.unwrap_or(0), self.usage.completion_tokens);
        for part in parts {
            let logprobs = match &part {
                Part::Text(text) if text.is_empty() => continue,
                // Those of thoughts and calls belong to no text.
                _ => std::mem::take(&mut self.logprobs),
            };
            let event = match part {
                Part::Text(text) => Event::Text { choice, text, completion_tokens, logprobs },
                Part::Reasoning(text) => Event::Reasoning { choice, text, completion_tokens },
                Part::Call(call) => {
                    let index = self.calls;
                    self.calls += 1;
                    Event::ToolCall { choice, index, call, completion_tokens }
                }
            };
            self.link.send(event);
        }
    }
}

impl Stopwatch {
    fn timings(&self) -> Timings {
        let first = self.first_token.unwrap_or_else(Instant::now);
        Timings {
            queued_ms: millis(self.started - self.arrived),
            prefill_ms: millis(first - self.started),
            ttft_ms: millis(first - self.arrived),
            decode_ms: millis(first.elapsed()),
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use contract::model::Sampling;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::sampling::{Defaults, Params};
    use crate::shared::Shared;
    use crate::tools::{Family, Thoughts, parser};

    pub fn start(prompt: usize, sampling: &Sampling, stop: &[&str]) -> (Sequence, UnboundedReceiver<Event>) {
        let (job, receiver) = job(prompt, sampling, stop);
        (Sequence::start(job, 0, 2), receiver)
    }

    fn job(prompt: usize, sampling: &Sampling, stop: &[&str]) -> (Job, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let flow = Flow { tenant: "t".into(), priority: worker_protocol::Priority::Interactive };
        let admission = Admission::acquire(&Arc::new(Shared::default()), &flow, 1, 1).unwrap().remove(0);
        let job = Job {
            id: Uuid::nil(),
            partition: "p".into(),
            flow,
            weight: 1,
            pinned: 0,
            pin_known_only: false,
            choice: Choice::default(),
            exact: false,
            number: None,
            prompt: vec![LlamaToken(1); prompt],
            params: Params::resolve(sampling, &Defaults::default(), 0).unwrap(),
            stop: stop.iter().map(|s| (*s).into()).collect(),
            link: Link { events, cancelled: CancellationToken::new() },
            arrived: Instant::now(),
            admission,
        };
        (job, receiver)
    }

    fn accept(sequence: &mut Sequence, bytes: &[u8], context: u32) -> Option<Finish> {
        sequence.accept(&Next::Token(LlamaToken(7), bytes), context).unwrap()
    }

    fn rest(mut receiver: UnboundedReceiver<Event>) -> Vec<Event> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    fn text(text: &str, completion_tokens: u32) -> Event {
        Event::Text { choice: 0, text: text.into(), completion_tokens, logprobs: Vec::new() }
    }

    #[test]
    fn prefill_comes_in_chunks_and_only_the_last_wants_scores() {
        let (mut sequence, _receiver) = start(10, &Sampling::default(), &[]);
        assert_eq!(sequence.need(), Need::Prefill(8));
        assert_eq!((sequence.next(5).0.len(), sequence.next(5).1), (5, false));
        sequence.advance(5);
        assert_eq!((sequence.next(5).0.len(), sequence.next(5).1), (3, true));
        sequence.advance(3);
        assert_eq!(accept(&mut sequence, b"x", 100), None);
        assert_eq!(sequence.need(), Need::Decode);
        assert_eq!(sequence.next(1), (&[LlamaToken(7)][..], true));
    }

    #[test]
    fn a_character_of_two_tokens_is_sent_once_with_both_counted() {
        let (mut sequence, receiver) = start(3, &Sampling::default(), &[]);
        assert_eq!(accept(&mut sequence, b"\xc3", 100), None);
        assert_eq!(accept(&mut sequence, b"\xbc", 100), None);
        assert_eq!(sequence.accept(&Next::End, 100), Ok(Some(Finish::Stop)));
        drop(sequence);
        assert_eq!(rest(receiver), [Event::Started { prompt_tokens: 3, cached_tokens: 2 }, text("ü", 2)]);
    }

    #[test]
    fn what_may_be_asked_once_is_pinned_when_it_is_known() {
        let pinned = |pinned, pin_known_only, number, reused| {
            let (job, _receiver) = job(10, &Sampling::default(), &[]);
            Sequence::start(Job { pinned, pin_known_only, number, ..job }, 0, reused).pinned
        };
        assert_eq!([pinned(5, false, None, 0), pinned(5, true, None, 4), pinned(5, true, None, 5)], [5, 0, 5]);
        assert_eq!([pinned(5, true, Some(0), 9), pinned(5, true, Some(1), 9)], [5, 0], "one request is no second one");
    }

    #[test]
    fn the_limit_and_the_context_end_a_completion() {
        let (mut sequence, _receiver) = start(3, &Sampling { max_tokens: Some(2), ..Sampling::default() }, &[]);
        assert_eq!(accept(&mut sequence, b"a", 100), None);
        assert_eq!(accept(&mut sequence, b"b", 100), Some(Finish::Length));
        let (mut sequence, _receiver) = start(3, &Sampling::default(), &[]);
        assert_eq!(accept(&mut sequence, b"a", 4), Some(Finish::Length));
    }

    #[test]
    fn what_was_held_back_is_sent_at_the_end() {
        let (mut sequence, receiver) = start(3, &Sampling::default(), &["END"]);
        assert_eq!(accept(&mut sequence, b"the EN", 100), None);
        sequence.finish(Finish::Length);
        let events = rest(receiver);
        assert_eq!(events[1..3], [text("the ", 1), text("EN", 1)]);
        assert!(matches!(&events[3], Event::Done { usage: Usage { completion_tokens: 1, .. }, .. }));
    }

    #[test]
    fn the_end_tells_which_stop_text_came() {
        let (mut sequence, receiver) = start(3, &Sampling::default(), &["END", "STOP"]);
        assert_eq!(accept(&mut sequence, b"one STOP", 100), Some(Finish::Stop));
        sequence.finish(Finish::Stop);
        let Some(Event::Done { stop, .. }) = rest(receiver).pop() else { panic!("it ended") };
        assert_eq!(stop.as_deref(), Some("STOP"));
    }

    #[test]
    fn tokens_of_thoughts_count_up_to_the_mark_that_ends_them() {
        for (began, tokens, thoughts) in [
            (true, &["hm", " so", "</think>", "Yes", "."][..], 3),
            (false, &["<think>", "hm", "</think>", "Yes."][..], 2),
            (true, &["never", " ends"][..], 2),
            (false, &["Yes", "."][..], 0),
        ] {
            let (mut sequence, receiver) = start(3, &Sampling::default(), &[]);
            sequence.choice.parser = Some(parser(Family::Hermes, Vec::new(), Thoughts::of("</think>"), began));
            for token in tokens {
                assert_eq!(accept(&mut sequence, token.as_bytes(), 100), None);
            }
            sequence.finish(Finish::Stop);
            let Some(Event::Done { usage, .. }) = rest(receiver).pop() else { panic!("it ended") };
            assert_eq!((usage.completion_tokens, usage.reasoning_tokens), (count(tokens.len()), thoughts), "{tokens:?}");
        }
    }
}

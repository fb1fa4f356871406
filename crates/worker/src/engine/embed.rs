//! The loop of embedding models and rerankers: inputs of many requests go through the model together.
//!
//! There is nothing to keep between steps, so a step is simply filled with whole inputs, whose turn it is by the
//! same virtual token counters as completions. Where a chat model of the same process has answers to write, a step takes
//! no longer than one of prompts beside them would; an input is computed whole in any case.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use uuid::Uuid;
use worker_protocol::{Event, FailCode, Finish, ModelKind, Timings, Usage, normalised};

use super::batch::budget::Budget;
use super::context::Context;
use super::failures::Failures;
use super::queue::flows::{Flow, Flows};
use super::{Link, Message};
use crate::bound::DISPLACED;
use crate::error::Error;
use crate::model::Model;
use crate::options::ModelOptions;
use crate::shared::{Admission, Shared};

/// Tokens of a step. Attention is computed over all of a step's tokens, its masked parts included, so larger steps
/// soon cost more than they save.
pub const STEP_TOKENS: u32 = 1024;
/// Inputs in a step.
const STEP_INPUTS: u32 = 64;

/// Inputs to be turned into vectors; each is known to fit.
pub struct EmbedJob {
    pub id: Uuid,
    pub flow: Flow,
    pub weight: u16,
    /// Never empty.
    pub inputs: Vec<Vec<LlamaToken>>,
    pub link: Link,
    pub arrived: Instant,
    /// Held until the job ends.
    pub admission: Admission,
}

/// A job and how far it has come.
struct Pending {
    job: EmbedJob,
    /// Inputs that were computed or are in this step.
    taken: usize,
    started: Option<Instant>,
    first: Option<Instant>,
}

/// Serves until every handle is gone or a halt is asked for.
pub(super) fn run(options: &ModelOptions, shared: &Arc<Shared>, model: Model, jobs: &mpsc::Receiver<Message>) -> Result<(), Error> {
    let weights = Arc::clone(&model.weights);
    let tokens = STEP_TOKENS.max(model.info.context_length);
    let context = Context::pooling(options, &weights, shared, tokens, STEP_INPUTS)?;
    let kind = model.info.kind;
    tracing::info!(model = model.info.id, ?kind, context_length = model.info.context_length, "model ready");
    shared.loaded(model)?;
    let tokens = usize::try_from(STEP_TOKENS).unwrap_or(usize::MAX);
    let (budget, flows) = (Budget::new(tokens), Flows::default());
    let failures = Failures::default();
    Embedder { context, kind, tokens, budget, pending: VecDeque::new(), flows, failures, shared }.serve(jobs)
}

struct Embedder<'a> {
    context: Context<'a>,
    kind: ModelKind,
    /// Tokens of a step, unless one input alone has more.
    tokens: usize,
    budget: Budget,
    /// In order of arrival.
    pending: VecDeque<Pending>,
    flows: Flows,
    failures: Failures,
    shared: &'a Shared,
}

impl Embedder<'_> {
    fn serve(&mut self, jobs: &mpsc::Receiver<Message>) -> Result<(), Error> {
        while self.receive(jobs) {
            if self.shared.halted.load(Relaxed) {
                for pending in self.pending.drain(..) {
                    pending.fail(FailCode::Engine, "the worker stops");
                }
                return Ok(());
            }
            self.tidy();
            self.flows.present(self.pending.iter().map(|pending| (&pending.job.flow, pending.job.weight)));
            let step = self.plan();
            self.publish(&step);
            if !step.is_empty() {
                match self.step(&step) {
                    Ok(()) => self.failures.over(),
                    Err(error) => self.recover(&step, error)?,
                }
                self.publish(&[]);
            }
        }
        Ok(())
    }

    /// Drops what is not to be computed any more.
    fn tidy(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            if pending.job.link.is_cancelled() {
                pending.fail(FailCode::Cancelled, "");
            } else if pending.job.admission.is_displaced() {
                pending.fail(FailCode::Overloaded, DISPLACED);
            } else {
                self.pending.push_back(pending);
            }
        }
    }

    /// Takes in what has arrived; sleeps if there is nothing to do. False when there never will be again.
    fn receive(&mut self, jobs: &mpsc::Receiver<Message>) -> bool {
        let mut message = if self.pending.is_empty() {
            match jobs.recv() {
                Ok(message) => Some(message),
                Err(mpsc::RecvError) => return false,
            }
        } else {
            jobs.try_recv().ok()
        };
        while let Some(received) = message {
            if let Message::Embed(job) = received {
                self.pending.push_back(Pending { job: *job, taken: 0, started: None, first: None });
            }
            message = jobs.try_recv().ok();
        }
        true
    }

    /// The inputs of the next step: which job's, and which of its.
    fn plan(&mut self) -> Vec<(usize, usize)> {
        let mut step = Vec::new();
        let mut room = room(&self.budget, self.tokens, self.shared.house.readers());
        let most = usize::try_from(STEP_INPUTS).unwrap_or(usize::MAX);
        while step.len() < most {
            let open = (0..self.pending.len()).filter(|at| self.pending[*at].is_open());
            let served = |at: &usize| self.flows.served(&self.pending[*at].job.flow);
            let Some(at) = open.min_by(|a, b| served(a).total_cmp(&served(b))) else { break };
            let pending = &mut self.pending[at];
            let length = pending.job.inputs[pending.taken].len();
            if length > room && !step.is_empty() {
                break;
            }
            if pending.taken == 0 && !pending.job.admission.begin() {
                // Somebody else has its place, so it is not open any more.
                continue;
            }
            step.push((at, pending.taken));
            pending.taken += 1;
            room = room.saturating_sub(length);
            self.flows.charge(&pending.job.flow, length, 0);
        }
        step
    }

    fn step(&mut self, step: &[(usize, usize)]) -> Result<(), Error> {
        self.context.clear();
        self.context.begin_step();
        let mut total = 0;
        for (seq, (at, input)) in step.iter().enumerate() {
            let pending = &mut self.pending[*at];
            pending.start(self.shared);
            for (position, token) in pending.job.inputs[*input].iter().enumerate() {
                self.context.add(*token, position, seq, true)?;
                total += 1;
            }
        }
        let took = self.context.decode()?;
        self.budget.observe(total, took);
        self.shared.house.totals.evaluated_tokens.fetch_add(u64::try_from(total).unwrap_or_default(), Relaxed);
        for (seq, (at, input)) in step.iter().enumerate() {
            let vector = self.context.pooled(seq)?;
            let vector = if self.kind == ModelKind::Embedding { normalised(vector) } else { vector[..1].to_vec() };
            self.pending[*at].tell(*input, vector);
        }
        // In order, so that the places of the others stay right.
        let done = |pending: &Pending| pending.taken == pending.job.inputs.len();
        for pending in std::mem::take(&mut self.pending) {
            if done(&pending) { pending.finish() } else { self.pending.push_back(pending) }
        }
        Ok(())
    }

    /// A step failed, and with it the jobs that have an input in it.
    fn recover(&mut self, step: &[(usize, usize)], error: Error) -> Result<(), Error> {
        tracing::error!(%error, "a step failed");
        fail_those_of(step, &mut self.pending, &error.to_string());
        self.failures.another(error)
    }

    fn publish(&self, step: &[(usize, usize)]) {
        let busy = jobs_of(step).len();
        self.shared.publish(0, busy, self.pending.len().saturating_sub(busy));
    }
}

impl Pending {
    /// There is something left to compute.
    fn is_open(&self) -> bool {
        self.taken < self.job.inputs.len() && (self.taken > 0 || !self.job.admission.is_displaced())
    }

    fn prompt_tokens(&self) -> u32 {
        u32::try_from(self.job.inputs.iter().map(Vec::len).sum::<usize>()).unwrap_or(u32::MAX)
    }

    fn usage(&self) -> Usage {
        Usage { prompt_tokens: self.prompt_tokens(), ..Usage::default() }
    }

    fn start(&mut self, shared: &Shared) {
        if self.started.is_none() {
            self.started = Some(Instant::now());
            shared.house.totals.started(self.prompt_tokens(), 0);
            self.job.link.send(Event::Started { prompt_tokens: self.prompt_tokens(), cached_tokens: 0 });
        }
    }

    fn tell(&mut self, input: usize, vector: Vec<f32>) {
        self.first.get_or_insert_with(Instant::now);
        let first = u32::try_from(input).unwrap_or(u32::MAX);
        self.job.link.send(Event::Vectors { first, vectors: vec![vector] });
    }

    fn finish(self) {
        let now = Instant::now();
        let (started, first) = (self.started.unwrap_or(now), self.first.unwrap_or(now));
        let timings = Timings {
            queued_ms: millis(started - self.job.arrived),
            prefill_ms: millis(now - started),
            ttft_ms: millis(first - self.job.arrived),
            decode_ms: 0,
        };
        tracing::debug!(id = %self.job.id, inputs = self.job.inputs.len(), ?timings, "vectors made");
        self.job.link.send(Event::Done { finish: Finish::Stop, stop: None, usage: self.usage(), timings });
    }

    fn fail(self, code: FailCode, why: &str) {
        let usage = if self.started.is_some() { self.usage() } else { Usage::default() };
        self.job.link.send(Event::Failed { code, message: why.to_owned(), usage });
    }
}

/// The jobs that have inputs in a step.
fn jobs_of(step: &[(usize, usize)]) -> BTreeSet<usize> {
    step.iter().map(|(at, _)| *at).collect()
}

/// Ends the jobs that have an input in a step; the others stay, in their order.
fn fail_those_of(step: &[(usize, usize)], pending: &mut VecDeque<Pending>, why: &str) {
    let lost = jobs_of(step);
    for (at, job) in std::mem::take(pending).into_iter().enumerate() {
        if lost.contains(&at) { job.fail(FailCode::Engine, why) } else { pending.push_back(job) }
    }
}

/// Tokens of a step: as many as are worth it, unless somebody's answer would stand still for too long meanwhile.
fn room(budget: &Budget, most: usize, readers: u32) -> usize {
    if readers == 0 { most } else { budget.tokens(1).min(most) }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio_util::sync::CancellationToken;
    use worker_protocol::Priority;

    use super::*;

    fn pending(inputs: usize) -> (Pending, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let flow = Flow { tenant: "t".into(), priority: Priority::Interactive };
        let admission = Admission::acquire(&Arc::new(Shared::default()), &flow, 1, 1).unwrap().remove(0);
        let job = EmbedJob {
            id: Uuid::nil(),
            flow,
            weight: 1,
            inputs: vec![vec![LlamaToken(1)]; inputs],
            link: Link { events, cancelled: CancellationToken::new() },
            arrived: Instant::now(),
            admission,
        };
        (Pending { job, taken: 0, started: None, first: None }, receiver)
    }

    #[test]
    fn a_step_that_fails_ends_its_own_jobs_and_no_others() {
        let (mut left, mut heard): (VecDeque<_>, Vec<_>) = (1..=4).map(pending).unzip();
        fail_those_of(&[(1, 0), (3, 0), (1, 1), (3, 1), (3, 2)], &mut left, "no memory");
        assert_eq!(left.iter().map(|pending| pending.job.inputs.len()).collect::<Vec<_>>(), [1, 3]);
        let failed = Event::Failed { code: FailCode::Engine, message: "no memory".into(), usage: Usage::default() };
        for (number, heard) in (1..).zip(&mut heard) {
            let expected = if number % 2 == 0 { Some(failed.clone()) } else { None };
            assert_eq!(heard.try_recv().ok(), expected, "job {number}");
        }
    }

    #[test]
    fn a_job_counts_once_however_many_of_its_inputs_are_in_a_step() {
        let step: Vec<_> = (0..64).map(|input| (0, input)).collect();
        assert_eq!(
            (jobs_of(&step).len(), jobs_of(&[(2, 5), (0, 1), (2, 6)]).len(), jobs_of(&[]).len()),
            (1, 2, 0),
            "If you are here because this failed: a worker with many short jobs behind a long one says that nobody waits."
        );
    }

    #[test]
    fn steps_are_short_only_beside_answers() {
        let most = 1024;
        let mut budget = Budget::new(most);
        (0..8).for_each(|_| budget.observe(1000, Duration::from_secs(2)));
        assert_eq!(room(&budget, most, 0), most);
        let beside = room(&budget, most, 3);
        assert!(
            (100..=130).contains(&beside),
            "{beside} tokens of 2 ms each. If you are here because this failed: making vectors stops all answers of other models."
        );
        (0..20).for_each(|_| budget.observe(1000, Duration::from_millis(20)));
        assert_eq!(room(&budget, most, 3), most);
    }
}

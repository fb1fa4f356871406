//! The loop: take requests, give slots, make a step, pass the tokens on.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::kv_cache::KvCacheConversionError;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use worker_protocol::{FailCode, Finish, LoadedModel};

use super::batch::budget::Budget;
use super::batch::schedule::{Need, share};
use super::queue::Queue;
use super::sequence::{Next, Sequence};
use super::slots::{Placement, Slots};
use super::{Job, Message};
use crate::error::Error;
use crate::model::{Model, backend};
use crate::options::Options;
use crate::shared::Shared;

/// Failed steps in a row after which the context is given up.
const MOST_FAILURES: u32 = 3;

/// Loads the model and serves until every handle is gone or a halt is asked for.
pub fn run(options: &Options, shared: &Arc<Shared>, jobs: mpsc::Receiver<Message>) -> Result<(), Error> {
    let began = Instant::now();
    let model = Model::load(options)?;
    let weights = Arc::clone(&model.weights);
    let mut engine = Thread::new(options, &weights, &model.info, shared, jobs)?;
    engine.warm_up()?;
    tracing::info!(model = model.info.id, context_length = model.info.context_length, slots = model.info.slots, took = ?began.elapsed(), "model ready");
    if shared.model.set(model).is_err() {
        return Err(Error::Engine("the model was loaded twice".into()));
    }
    engine.serve()
}

struct Thread<'a> {
    context: LlamaContext<'a>,
    vocab: LlamaVocab<'a>,
    batch: LlamaBatch<'static>,
    batch_limit: usize,
    context_length: u32,
    slots: Slots,
    queue: Queue,
    running: Vec<Sequence>,
    budget: Budget,
    jobs: mpsc::Receiver<Message>,
    shared: &'a Shared,
    /// Scratch: one score per token of the vocabulary.
    scores: Vec<f32>,
    /// Scratch: the bytes of one token.
    piece: Vec<u8>,
    steps: usize,
    failures: u32,
}

impl<'a> Thread<'a> {
    fn new(
        options: &Options,
        weights: &'a LlamaModel,
        info: &LoadedModel,
        shared: &'a Shared,
        jobs: mpsc::Receiver<Message>,
    ) -> Result<Self, Error> {
        let batch = usize::try_from(options.batch).unwrap_or(usize::MAX);
        let slots = usize::try_from(options.slots).unwrap_or(usize::MAX);
        let cuttable = !weights.is_recurrent() && !weights.is_hybrid();
        Ok(Self {
            context: new_context(options, weights, info)?,
            vocab: weights.vocab(),
            batch: LlamaBatch::new(batch, 1),
            batch_limit: batch,
            context_length: info.context_length,
            slots: Slots::new(slots, cuttable),
            queue: Queue::default(),
            running: Vec::with_capacity(slots),
            budget: Budget::new(batch),
            jobs,
            shared,
            scores: Vec::new(),
            piece: Vec::with_capacity(64),
            steps: 0,
            failures: 0,
        })
    }

    /// Pulls the weights into memory and measures what a step costs, so that the first request is served
    /// like any other.
    fn warm_up(&mut self) -> Result<(), Error> {
        // The first step only pages the weights in.
        for (step, tokens) in [1, 1, 16, 16].into_iter().enumerate() {
            self.batch.clear();
            for position in 0..tokens {
                self.add(LlamaToken(0), position, 0, position + 1 == tokens)?;
            }
            let took = self.decode()?;
            if step > 0 {
                self.budget.observe(tokens, took);
            }
            self.context.clear_kv_cache();
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<(), Error> {
        while self.receive() {
            if self.shared.halted.load(Relaxed) {
                self.give_up("the worker stops");
                return Ok(());
            }
            self.queue.forget_cancelled();
            self.drop_cancelled();
            self.admit()?;
            // First the numbers, so that whoever hears of its place finds it in the status.
            self.publish();
            self.queue.announce();
            if !self.running.is_empty() {
                self.step()?;
                // Before the thread may go to sleep.
                self.publish();
            }
        }
        Ok(())
    }

    /// Takes in what has arrived; sleeps if there is nothing to do. False when there never will be again.
    fn receive(&mut self) -> bool {
        let mut message = if self.running.is_empty() && self.queue.is_empty() {
            match self.jobs.recv() {
                Ok(message) => Some(message),
                Err(mpsc::RecvError) => return false,
            }
        } else {
            self.jobs.try_recv().ok()
        };
        while let Some(received) = message {
            if let Message::Job(job) = received {
                self.queue.push(job);
            }
            message = self.jobs.try_recv().ok();
        }
        true
    }

    fn drop_cancelled(&mut self) {
        for sequence in self.running.extract_if(.., |sequence| sequence.cancelled()) {
            tracing::debug!(id = %sequence.id, usage = ?sequence.usage(), "cancelled");
            self.slots.release(sequence.slot);
        }
    }

    fn admit(&mut self) -> Result<(), Error> {
        while self.slots.any_free()
            && let Some(job) = self.queue.pop()
        {
            self.start(*job)?;
        }
        Ok(())
    }

    fn start(&mut self, job: Job) -> Result<(), Error> {
        let placement = self.slots.place(&job.partition, &job.prompt).ok_or_else(|| Error::Engine("a free slot vanished".into()))?;
        let reused = self.carry_over(placement).map_err(|error| Error::Engine(error.to_string()))?;
        self.slots.take(Placement { reused, ..placement }, &job.partition, &job.prompt);
        let seen = job.prompt.len().saturating_sub(job.params.repeat_window);
        let recent: Vec<i32> = job.prompt[seen..].iter().filter(|token| !self.vocab.is_eog(**token)).map(|token| token.0).collect();
        let mut sequence = Sequence::start(job, placement.slot, reused);
        recent.into_iter().for_each(|token| sequence.sampler.accept(token));
        let usage = sequence.usage();
        self.shared.totals.started(usage.prompt_tokens, usage.cached_tokens);
        tracing::debug!(id = %sequence.id, slot = sequence.slot, ?usage, "prefill begins");
        self.running.push(sequence);
        Ok(())
    }

    /// Makes the slot's cells exactly the reused beginning; returns how much of it could be kept.
    fn carry_over(&mut self, placement: Placement) -> Result<usize, KvCacheConversionError> {
        let slot = seq(placement.slot);
        let reused = u32::try_from(placement.reused).unwrap_or(u32::MAX);
        if placement.from == placement.slot && placement.reused > 0 {
            if self.context.clear_kv_cache_seq(Some(slot), Some(reused), None)? {
                return Ok(placement.reused);
            }
            // This kind of memory cannot be cut; start afresh.
            self.context.clear_kv_cache_seq(Some(slot), None, None)?;
            return Ok(0);
        }
        self.context.clear_kv_cache_seq(Some(slot), None, None)?;
        if placement.reused > 0 {
            let (from, to) = (seq(placement.from).cast_signed(), slot.cast_signed());
            self.context.copy_kv_cache_seq(from, to, Some(0), Some(reused))?;
        }
        Ok(placement.reused)
    }

    fn publish(&self) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.shared.busy.store(number(self.running.len()), Relaxed);
        self.shared.queued.store(number(self.queue.len()), Relaxed);
    }

    /// One step for everybody: a token for each running answer, a share of the prompts beside them.
    fn step(&mut self) -> Result<(), Error> {
        let needs: Vec<Need> = self.running.iter().map(Sequence::need).collect();
        let readers = needs.iter().filter(|need| **need == Need::Decode).count();
        let shares = share(&needs, self.budget.tokens(readers).min(self.batch_limit), self.steps);
        self.steps = self.steps.wrapping_add(1);
        let outputs = self.fill(&shares)?;
        match self.decode() {
            Ok(took) => self.budget.observe(shares.iter().sum(), took),
            Err(error) => return self.recover(error),
        }
        self.failures = 0;
        for (sequence, n) in self.running.iter_mut().zip(&shares) {
            self.slots.extend(sequence.slot, sequence.next(*n).0);
            sequence.advance(*n);
        }
        self.pass_on(&outputs);
        Ok(())
    }

    /// Puts the shares into the batch; returns for each sequence where its scores will be, if it wants them.
    fn fill(&mut self, shares: &[usize]) -> Result<Vec<Option<i32>>, Error> {
        self.batch.clear();
        let running = std::mem::take(&mut self.running);
        let mut outputs = Vec::with_capacity(running.len());
        for (sequence, n) in running.iter().zip(shares) {
            let (tokens, wants_scores) = sequence.next(*n);
            let first = self.slots.computed(sequence.slot);
            for (at, token) in tokens.iter().enumerate() {
                self.add(*token, first + at, sequence.slot, wants_scores && at + 1 == tokens.len())?;
            }
            outputs.push(wants_scores.then(|| self.batch.n_tokens() - 1));
        }
        self.running = running;
        Ok(outputs)
    }

    fn add(&mut self, token: LlamaToken, position: usize, slot: usize, scores: bool) -> Result<(), Error> {
        let position = i32::try_from(position).map_err(|error| Error::Engine(error.to_string()))?;
        self.batch.add(token, position, &[seq(slot).cast_signed()], scores).map_err(|error| Error::Engine(error.to_string()))
    }

    fn decode(&mut self) -> Result<Duration, Error> {
        let began = Instant::now();
        self.context.decode(&mut self.batch).map_err(|error| Error::Engine(error.to_string()))?;
        // Some back ends only queue the work in `decode`.
        self.context.synchronize();
        Ok(began.elapsed())
    }

    /// Chooses the next token of every sequence that has scores, and ends the sequences that are complete.
    fn pass_on(&mut self, outputs: &[Option<i32>]) {
        let mut going_on = Vec::with_capacity(self.running.len());
        for (mut sequence, output) in std::mem::take(&mut self.running).into_iter().zip(outputs) {
            let outcome = output.map_or(Ok(None), |index| self.choose(&mut sequence, index));
            match outcome {
                Ok(None) => going_on.push(sequence),
                Ok(Some(finish)) => {
                    self.slots.release(sequence.slot);
                    sequence.finish(finish);
                }
                Err(message) => {
                    self.slots.release(sequence.slot);
                    sequence.fail(FailCode::Engine, message);
                }
            }
        }
        self.running = going_on;
    }

    fn choose(&mut self, sequence: &mut Sequence, index: i32) -> Result<Option<Finish>, String> {
        self.scores.clear();
        self.scores.extend_from_slice(self.context.get_logits_ith(index));
        for token in self.vocab.suppress_tokens() {
            if let Some(score) = usize::try_from(token.0).ok().and_then(|at| self.scores.get_mut(at)) {
                *score = f32::NEG_INFINITY;
            }
        }
        let token = sequence.sampler.choose(&mut self.scores).ok_or("the model's scores are not numbers")?;
        let token = LlamaToken(token);
        if self.vocab.is_eog(token) {
            return Ok(sequence.accept(&Next::End, self.context_length));
        }
        self.piece.clear();
        self.vocab.token_to_piece_into(token, &mut self.piece, false, None);
        self.shared.totals.produced_one();
        Ok(sequence.accept(&Next::Token(token, &self.piece), self.context_length))
    }

    /// A step failed: its sequences are lost and the cells unknown. Once may be bad luck (memory), again
    /// and again means that this process is of no use any more.
    fn recover(&mut self, error: Error) -> Result<(), Error> {
        tracing::error!(%error, "a step failed");
        self.failures += 1;
        for sequence in self.running.drain(..) {
            sequence.fail(FailCode::Engine, error.to_string());
        }
        self.context.clear_kv_cache();
        self.slots.forget_all();
        if self.failures < MOST_FAILURES { Ok(()) } else { Err(error) }
    }

    fn give_up(&mut self, why: &str) {
        for sequence in self.running.drain(..) {
            sequence.fail(FailCode::Engine, why.to_owned());
        }
    }
}

fn new_context<'a>(options: &Options, weights: &'a LlamaModel, info: &LoadedModel) -> Result<LlamaContext<'a>, Error> {
    let cells = info.context_length.saturating_mul(info.slots);
    let threads = i32::try_from(options.threads).unwrap_or(1);
    let params = LlamaContextParams::default()
        .with_n_ctx(std::num::NonZero::new(cells))
        .with_n_seq_max(info.slots)
        // One pool of cells: a shared beginning is stored once, and a step is one pass over the weights.
        // It suffices because no sequence gets longer than `context_length`.
        .with_kv_unified(true)
        .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO)
        .with_n_batch(options.batch)
        .with_n_ubatch(options.batch)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    weights.new_context(backend()?, params).map_err(|error| {
        Error::Engine(format!(
            "no context of {cells} tokens ({} slots × {}): {error}; is there enough memory?",
            info.slots, info.context_length
        ))
    })
}

/// llama.cpp's number of a slot's sequence.
fn seq(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

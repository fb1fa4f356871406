//! One context and what runs in it: let in who may run, make a step.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use worker_protocol::{FailCode, LoadedModel};

use super::Job;
use super::batch::budget::{Budget, steady};
use super::batch::schedule::Need;
use super::cells::{Cells, MOST_SEQUENCES};
use super::context::Context;
use super::failures::Failures;
use super::kept::Kept;
use super::queue::flows::{Books, Flow, Flows};
use super::queue::{Queue, Work};
use super::sequence::Sequence;
use crate::error::Error;
use crate::options::ModelOptions;
use crate::shared::Shared;

/// Which context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The one that all share, with the prefix cache.
    Shared = 0,
    /// One request after the other in an empty context, in steps of a fixed size: see `lanes`.
    Exact = 1,
}

/// Most prompt tokens in a step where an answer must come out the same each time.
const EXACT_STEP: usize = 32;
/// Tokens of a larger step before the first request.
const WARM_UP: usize = 16;
/// Sequences beside those that run, for beginnings that are kept.
const KEPT_SEQUENCES: u32 = 48;

/// The engine's state. Its parts: `admission` decides who runs, `step` computes.
pub(super) struct Thread<'a> {
    pub(super) context: Context<'a>,
    pub(super) vocab: LlamaVocab<'a>,
    /// Tokens that end a completion.
    pub(super) ends: Vec<LlamaToken>,
    pub(super) batch_limit: usize,
    pub(super) context_length: u32,
    /// Sequences that run at the same time.
    pub(super) slots: usize,
    /// A sequence's cells can be cut, so that guesses can be taken back. Not with recurrent models.
    pub(super) can_cut: bool,
    pub(super) cells: Cells,
    pub(super) queue: Queue,
    pub(super) running: Vec<Sequence>,
    pub(super) budget: Budget,
    kept: Option<Kept>,
    /// Something was computed since the prefix cache was saved.
    unsaved: bool,
    pub(super) lane: Lane,
    /// Layers are on a graphics card.
    pub(super) on_card: bool,
    pub(super) shared: &'a Shared,
    /// Scratch: one score per token of the vocabulary.
    pub(super) scores: Vec<f32>,
    /// Scratch: the bytes of one token.
    pub(super) piece: Vec<u8>,
    pub(super) steps: usize,
    pub(super) failures: Failures,
}

impl<'a> Thread<'a> {
    pub(super) fn new(
        options: &ModelOptions,
        weights: &'a LlamaModel,
        info: &LoadedModel,
        shared: &'a Shared,
        lane: Lane,
        budget: Budget,
    ) -> Result<Self, Error> {
        let exact = lane == Lane::Exact;
        let batch = usize::try_from(options.batch).unwrap_or(usize::MAX);
        let slot_count = if exact { 1 } else { options.slots };
        let slots = usize::try_from(slot_count).unwrap_or(usize::MAX);
        let can_cut = !weights.is_recurrent() && !weights.is_hybrid();
        let most = u32::try_from(MOST_SEQUENCES).unwrap_or(u32::MAX);
        let sequences = if can_cut && !exact { (slot_count + KEPT_SEQUENCES).min(most) } else { slot_count };
        let cells = if exact { info.context_length } else { options.cells(info.context_length) };
        let kept = if exact { Ok(None) } else { Kept::new(options) };
        let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            context: Context::new(options, weights, shared, cells, sequences)?,
            vocab: weights.vocab(),
            ends: weights.vocab().tokens().filter(|token| weights.vocab().is_eog(*token)).collect(),
            batch_limit: batch,
            context_length: info.context_length,
            slots,
            can_cut,
            cells: Cells::new(number(cells), number(sequences), can_cut && !exact),
            queue: Queue::default(),
            running: Vec::with_capacity(slots),
            budget,
            kept: kept.map_err(|error| Error::Engine(format!("the prefix cache cannot be kept: {error}")))?,
            unsaved: false,
            lane,
            on_card: options.gpu_layers > 0,
            shared,
            scores: Vec::new(),
            piece: Vec::with_capacity(64),
            steps: 0,
            failures: Failures::default(),
        })
    }

    pub(super) fn context_length_usize(&self) -> usize {
        usize::try_from(self.context_length).unwrap_or(usize::MAX)
    }

    /// Pulls the weights into memory and measures what a step costs, so that the first request is served
    /// like any other. Returns how many tokens a step of a fixed size can have here, see [`steady`].
    pub(super) fn warm_up(&mut self) -> Result<usize, Error> {
        let (mut one, mut several) = (Duration::MAX, Duration::MAX);
        // The first step only pages the weights in.
        for (step, tokens) in [1, 1, WARM_UP, WARM_UP, 1, WARM_UP].into_iter().enumerate() {
            self.context.begin_step();
            for position in 0..tokens {
                self.context.add(LlamaToken(0), position, 0, position + 1 == tokens)?;
            }
            let took = self.context.decode()?;
            if step > 0 {
                self.budget.observe(tokens, took);
                let quickest = if tokens == 1 { &mut one } else { &mut several };
                *quickest = took.min(*quickest);
            }
            self.context.clear();
        }
        Ok(steady(one, (WARM_UP, several), EXACT_STEP.min(self.batch_limit)))
    }

    /// The size that steps for seeds have, where they could have so many tokens by what was `measured`.
    pub(super) fn exact_step(&self, threads: u32, measured: usize) -> usize {
        let most = EXACT_STEP.min(self.batch_limit);
        self.kept.as_ref().map_or(measured, |kept| kept.step(threads, measured).min(most))
    }

    /// Something runs or waits.
    pub(super) fn has_work(&self) -> bool {
        !self.running.is_empty() || !self.queue.is_empty()
    }

    pub(super) fn push(&mut self, job: Box<Job>) {
        self.queue.push(Work::New(job));
    }

    /// Drops what is not to be answered any more.
    pub(super) fn tidy(&mut self) {
        self.queue.forget_cancelled();
        self.queue.forget_displaced();
        self.drop_cancelled();
    }

    /// Whose work is here, running or waiting, with their weights.
    pub(super) fn present(&self) -> impl Iterator<Item = (&Flow, u16)> {
        let waiting = self.queue.iter().map(|work| (work.flow(), work.weight()));
        waiting.chain(self.running.iter().map(|sequence| (&sequence.flow, sequence.weight)))
    }

    /// Lets in who may run and makes a step.
    pub(super) fn turn(&mut self, books: &mut Books<'_>) -> Result<(), Error> {
        self.admit(books.own)?;
        self.tell(books.own);
        if !self.running.is_empty() {
            self.step(books)?;
            self.unsaved = true;
            // Before the thread may go to sleep.
            self.publish();
        }
        Ok(())
    }

    /// Tells those that wait how long.
    pub(super) fn tell(&mut self, flows: &Flows) {
        // First the numbers, so that whoever hears of its place finds it in the status.
        self.publish();
        self.queue.announce(flows, Instant::now());
    }

    /// There is something to keep that was not kept yet.
    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved && self.kept.is_some()
    }

    /// Takes in what was kept over a restart. What cannot be is computed again; that is no reason to fail.
    pub(super) fn load(&mut self) {
        if let Err(error) = self.try_load() {
            tracing::warn!(%error, "the saved prefix cache is of no use");
            self.context.clear();
            self.cells.forget_all();
            if let Some(Err(error)) = self.kept.as_mut().map(Kept::discard) {
                tracing::warn!(%error, "the saved prefix cache is not removed");
            }
        }
    }

    fn try_load(&mut self) -> Result<(), Error> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let whole = kept.load(&mut self.context, &mut self.cells)?;
        self.try_out()?;
        self.unsaved = !whole;
        self.kept.as_mut().map_or(Ok(()), Kept::trust).map_err(|error| Error::Engine(format!("its mark cannot be removed: {error}")))
    }

    /// A step beside what was taken in. It looks at all cells, so what llama.cpp cannot bear shows now.
    fn try_out(&mut self) -> Result<(), Error> {
        if self.cells.used() == 0 {
            return Ok(());
        }
        let begun = self.cells.begin("", &[]).ok_or_else(|| Error::Engine("there is no sequence left".into()))?;
        // Always possible: nothing is being computed.
        self.cells.make_room(1);
        self.context.apply(self.cells.take_ops())?;
        self.context.begin_step();
        self.context.add(LlamaToken(0), 0, begun.seq, true)?;
        self.context.decode()?;
        self.cells.end(begun.seq);
        self.context.apply(self.cells.take_ops())
    }

    fn drop_cancelled(&mut self) {
        for sequence in self.running.extract_if(.., |sequence| sequence.cancelled()) {
            self.cells.end(sequence.seq);
            sequence.fail(FailCode::Cancelled, String::new());
        }
    }

    /// Saves one sequence more of the prefix cache, or the list of all. What cannot be kept is computed again; that is no
    /// reason to fail.
    pub(super) fn save_next(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        let context = &self.context;
        let saved = kept.save_next(&self.cells, |path, what| context.save(path, what.seq, what.tokens));
        self.unsaved = saved.unwrap_or_else(|error| {
            tracing::warn!(%error, "the prefix cache is not kept");
            false
        });
    }

    fn publish(&mut self) {
        self.shared.publish(self.lane as usize, self.running.len(), self.queue.len());
        let readers = self.running.iter().filter(|sequence| sequence.need() == Need::Decode).count();
        self.shared.publish_readers(self.lane as usize, readers);
        self.shared.house.totals.evicted_cells.fetch_add(self.cells.take_evicted(), Relaxed);
    }

    /// A step failed: its sequences are lost and the cells unknown.
    pub(super) fn recover(&mut self, error: Error) -> Result<(), Error> {
        tracing::error!(%error, "a step failed");
        for sequence in self.running.drain(..) {
            sequence.fail(FailCode::Engine, error.to_string());
        }
        self.context.clear();
        self.cells.forget_all();
        if let Some(kept) = &mut self.kept {
            kept.cells_lost();
        }
        self.failures.another(error)
    }

    pub(super) fn give_up(&mut self, why: &str) {
        for sequence in self.running.drain(..) {
            sequence.fail(FailCode::Engine, why.to_owned());
        }
        for work in self.queue.drain() {
            if let Work::Paused(sequence) = work {
                sequence.fail(FailCode::Engine, why.to_owned());
            }
        }
    }
}

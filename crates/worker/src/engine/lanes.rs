//! The engine's loop over its two contexts.
//!
//! What comes out of a step depends, in its last digits, on where cells lie, on who else is in it and on how a prompt
//! is cut; and a model amplifies that until another token is chosen. Whoever gives a seed asks for the same answer
//! each time, so such requests run one after the other in a context of their own, which is empty at their beginning,
//! in steps of a fixed size. The price is the prefix cache. The context is made when the first seed comes.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use llama_cpp_2::model::LlamaModel;
use worker_protocol::{LoadedModel, ModelKind};

use super::thread::{Lane, Thread};
use super::{Job, Message, embed};
use crate::error::Error;
use crate::model::Model;
use crate::options::ModelOptions;
use crate::shared::Shared;

/// After so long without work the prefix cache is saved.
const QUIET: Duration = Duration::from_secs(20);

/// Loads the model and serves until every handle is gone or a halt is asked for.
pub fn run(options: &ModelOptions, shared: &Arc<Shared>, jobs: mpsc::Receiver<Message>) -> Result<(), Error> {
    let began = Instant::now();
    let model = Model::load(options)?;
    let weights = Arc::clone(&model.weights);
    let info = model.info.clone();
    if info.kind != ModelKind::Chat {
        return embed::run(options, shared, model, &jobs);
    }
    let mut common = Thread::new(options, &weights, &info, shared, Lane::Shared)?;
    common.warm_up()?;
    common.load()?;
    tracing::info!(model = info.id, context_length = info.context_length, slots = info.slots, took = ?began.elapsed(), "model ready");
    shared.loaded(model)?;
    let mut lanes = Lanes { common, exact: None, options, weights: &weights, info: &info, shared, jobs };
    lanes.serve()?;
    lanes.common.save();
    Ok(())
}

struct Lanes<'a> {
    common: Thread<'a>,
    exact: Option<Thread<'a>>,
    options: &'a ModelOptions,
    weights: &'a LlamaModel,
    info: &'a LoadedModel,
    shared: &'a Shared,
    jobs: mpsc::Receiver<Message>,
}

impl Lanes<'_> {
    fn serve(&mut self) -> Result<(), Error> {
        while self.receive() {
            if self.shared.halted.load(Relaxed) {
                self.common.give_up("the worker stops");
                if let Some(exact) = &mut self.exact {
                    exact.give_up("the worker stops");
                }
                return Ok(());
            }
            self.common.turn()?;
            if let Some(exact) = self.exact.as_mut().filter(|exact| exact.has_work()) {
                exact.turn()?;
            }
        }
        Ok(())
    }

    /// Takes in what has arrived; sleeps if there is nothing to do. False when there never will be again.
    fn receive(&mut self) -> bool {
        let works = self.common.has_work() || self.exact.as_ref().is_some_and(Thread::has_work);
        let mut message = if works {
            self.jobs.try_recv().ok()
        } else if self.common.is_unsaved() {
            match self.jobs.recv_timeout(QUIET) {
                Ok(message) => Some(message),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.common.save();
                    None
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        } else {
            match self.jobs.recv() {
                Ok(message) => Some(message),
                Err(mpsc::RecvError) => return false,
            }
        };
        while let Some(received) = message {
            if let Message::Job(job) = received {
                self.take(job);
            }
            message = self.jobs.try_recv().ok();
        }
        true
    }

    fn take(&mut self, job: Box<Job>) {
        if job.exact && self.exact.is_none() {
            match Thread::new(self.options, self.weights, self.info, self.shared, Lane::Exact) {
                Ok(exact) => self.exact = Some(exact),
                Err(error) => tracing::warn!(%error, "there is no room for a context of its own; a seed may not repeat an answer"),
            }
        }
        match &mut self.exact {
            Some(exact) if job.exact => exact.push(job),
            _ => self.common.push(job),
        }
    }
}

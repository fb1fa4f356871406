//! The engine's loop over its two contexts.
//!
//! What comes out of a step depends, in its last digits, on where cells lie, on who else is in it and on how a prompt
//! is cut; and a model amplifies that until another token is chosen. Whoever gives a seed asks for the same answer
//! each time, so such requests run one after the other in a context of their own, which is empty at their beginning,
//! in steps of a fixed size, and none is paused: it would have to begin anew. The price is the prefix cache. The context is
//! made when the first seed comes. The size is chosen once, from what a step cost before the first
//! request; were it another one after a restart, a seed could give another answer, see [`super::batch::budget::steady`]. Where
//! the prefix cache is kept, the size is, too.
//!
//! Both contexts count what they compute in the same [`Flows`], which decide whose turn it is. Who is next among the seeds
//! is decided by [`Flows`] of their own: in the common ones all of them may be far behind the rest, where nobody is
//! remembered to have had more than another. Between two steps of the common one there is at most
//! one for a seed, so that nobody's answer stands still for longer, and only if nobody with work was served less than
//! whoever has work there: a flood of seeds has its tenant's share and no more. Whose tenant also fills the common
//! context would wait for ever by that rule, so after [`PATIENCE`] steps there is one in any case.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use llama_cpp_2::model::LlamaModel;
use worker_protocol::{LoadedModel, ModelKind};

use super::batch::budget::Budget;
use super::inbox::{Inbox, Next};
use super::queue::flows::{Books, Flows};
use super::thread::{Lane, Thread};
use super::{Job, Message, embed};
use crate::error::Error;
use crate::model::Model;
use crate::options::ModelOptions;
use crate::shared::Shared;

/// So many common steps in a row may pass without one for a seed that waits for it.
const PATIENCE: u32 = 8;

/// Loads the model and serves until every handle is gone or a halt is asked for.
pub fn run(options: &ModelOptions, shared: &Arc<Shared>, jobs: mpsc::Receiver<Message>) -> Result<(), Error> {
    let began = Instant::now();
    let model = Model::load(options)?;
    let weights = Arc::clone(&model.weights);
    let info = model.info.clone();
    if info.kind != ModelKind::Chat {
        return embed::run(options, shared, model, &jobs);
    }
    let batch = usize::try_from(options.batch).unwrap_or(usize::MAX);
    let mut common = Thread::new(options, &weights, &info, shared, Lane::Shared, Budget::new(batch))?;
    let measured = common.warm_up()?;
    let exact_step = common.exact_step(options.threads, measured);
    common.load();
    tracing::info!(
        model = info.id,
        context_length = info.context_length,
        slots = info.slots,
        exact_step,
        took = ?began.elapsed(),
        "model ready"
    );
    shared.loaded(model)?;
    let (flows, seeds, turns) = (Flows::default(), Flows::default(), Turns::default());
    let inbox = Inbox::new(jobs, options.state_quiet);
    let mut lanes = Lanes { common, exact: None, exact_step, flows, seeds, turns, options, weights: &weights, info: &info, shared, inbox };
    lanes.serve()?;
    while lanes.common.is_unsaved() {
        lanes.common.save_next();
    }
    Ok(())
}

struct Lanes<'a> {
    common: Thread<'a>,
    exact: Option<Thread<'a>>,
    /// Most tokens of its steps.
    exact_step: usize,
    /// Of both.
    flows: Flows,
    /// Of the exact one alone.
    seeds: Flows,
    turns: Turns,
    options: &'a ModelOptions,
    weights: &'a LlamaModel,
    info: &'a LoadedModel,
    shared: &'a Shared,
    inbox: Inbox<Message>,
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
            self.common.tidy();
            if let Some(exact) = &mut self.exact {
                exact.tidy();
            }
            self.flows.present(self.common.present().chain(self.exact.iter().flat_map(|exact| exact.present())));
            self.common.budget.alternate(self.exact.as_ref().is_some_and(Thread::has_work));
            self.common.turn(&mut Books { own: &mut self.flows, all: None })?;
            self.exact_turn()?;
        }
        Ok(())
    }

    /// A step for a seed, if it is its turn.
    fn exact_turn(&mut self) -> Result<(), Error> {
        let Some(exact) = &mut self.exact else { return Ok(()) };
        self.seeds.present(exact.present());
        if !exact.has_work() {
            // Where one was cancelled, the numbers still have it.
            exact.tell(&self.seeds);
            return Ok(());
        }
        let seeds = self.flows.least(exact.present().map(|(flow, _)| flow));
        let others = self.flows.least(self.common.present().map(|(flow, _)| flow));
        if self.turns.exact_is_due(seeds, others) {
            exact.turn(&mut Books { own: &mut self.seeds, all: Some(&mut self.flows) })
        } else {
            exact.tell(&self.seeds);
            Ok(())
        }
    }

    /// Takes in what has arrived; sleeps if there is nothing to do. False when there never will be again.
    fn receive(&mut self) -> bool {
        let works = self.common.has_work() || self.exact.as_ref().is_some_and(Thread::has_work);
        let mut message = match self.inbox.next(works, self.common.is_unsaved()) {
            Next::Take(message) => Some(message),
            Next::Work => None,
            Next::Save => {
                self.common.save_next();
                None
            }
            Next::End => return false,
        };
        while let Some(received) = message {
            if let Message::Job(job) = received {
                self.take(job);
            }
            message = self.inbox.more();
        }
        true
    }

    fn take(&mut self, job: Box<Job>) {
        if job.exact && self.exact.is_none() {
            match Thread::new(self.options, self.weights, self.info, self.shared, Lane::Exact, Budget::fixed(self.exact_step)) {
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

/// When the context for seeds has a step.
#[derive(Default)]
struct Turns {
    /// Common steps since it had one, while something waited for it.
    passed_over: u32,
}

impl Turns {
    /// `seeds` and `others`: what was served to whoever was served least of those with work in that context.
    fn exact_is_due(&mut self, seeds: f64, others: f64) -> bool {
        let due = seeds <= others || self.passed_over >= PATIENCE;
        self.passed_over = if due { 0 } else { self.passed_over + 1 };
        due
    }
}

#[cfg(test)]
mod tests {
    use worker_protocol::Priority;

    use super::super::queue::flows::Flow;
    use super::*;

    fn flow(tenant: &str, priority: Priority) -> Flow {
        Flow { tenant: tenant.into(), priority }
    }

    /// Rounds in which all of `common` are served ten tokens each and, if it is its turn, whoever was served least of
    /// `seeds` is, too. Returns how many steps each of `seeds` had.
    fn rounds(count: usize, common: &[Flow], seeds: &[Flow]) -> Vec<usize> {
        let (mut flows, mut own, mut turns) = (Flows::default(), Flows::default(), Turns::default());
        let mut steps = vec![0; seeds.len()];
        for _ in 0..count {
            flows.present(common.iter().chain(seeds).map(|flow| (flow, 1)));
            own.present(seeds.iter().map(|flow| (flow, 1)));
            common.iter().for_each(|flow| flows.charge(flow, 10, 0));
            if turns.exact_is_due(flows.least(seeds.iter()), flows.least(common.iter())) {
                let next = (0..seeds.len()).min_by(|a, b| own.served(&seeds[*a]).total_cmp(&own.served(&seeds[*b])));
                let next = next.expect("somebody");
                Books { own: &mut own, all: Some(&mut flows) }.charge(&seeds[next], 10, 0);
                steps[next] += 1;
            }
        }
        steps
    }

    #[test]
    fn a_flood_of_seeds_takes_no_more_than_its_tenants_share() {
        let (a, b) = (flow("a", Priority::Interactive), flow("b", Priority::Interactive));
        let steps = rounds(9_000, std::slice::from_ref(&b), std::slice::from_ref(&a));
        assert!((8_900..=9_000).contains(&steps[0]), "{steps:?}: as much as the other one");
        // Whoever fills the common context, too, has the share of its tenant already.
        let steps = rounds(9_000, &[a.clone(), b], &[a]);
        assert!((900..=1_100).contains(&steps[0]), "{steps:?}");
    }

    #[test]
    fn seeds_of_two_tenants_share_their_context() {
        let (a, b, c) = (flow("a", Priority::Interactive), flow("b", Priority::Interactive), flow("c", Priority::Interactive));
        let steps = rounds(8_000, &[c], &[a, b]);
        assert!(steps[0].abs_diff(steps[1]) <= 1, "{steps:?}");
    }

    #[test]
    fn a_flood_of_seeds_does_not_keep_the_seed_of_another_tenant_waiting() {
        const COMES: usize = 2_025;
        const STEPS: usize = 50;
        let (flood, quiet, common) =
            (flow("flood", Priority::Interactive), flow("quiet", Priority::Interactive), flow("common", Priority::Interactive));
        let (mut flows, mut own, mut turns) = (Flows::default(), Flows::default(), Turns::default());
        let both = [&flood, &quiet];
        // What is left of the one of the flood that runs; each has so many steps.
        let mut left = 0;
        let began = (0..).find(|round| {
            let seeds = &both[..if *round < COMES { 1 } else { 2 }];
            flows.present(seeds.iter().copied().chain([&common]).map(|flow| (flow, 1)));
            own.present(seeds.iter().map(|flow| (*flow, 1)));
            flows.charge(&common, 8, 0);
            if !turns.exact_is_due(flows.least(seeds.iter().copied()), flows.least([&common].into_iter())) {
                return false;
            }
            if left == 0 && own.least(seeds.iter().copied()) < own.served(&flood) {
                return true;
            }
            left = if left == 0 { STEPS } else { left } - 1;
            Books { own: &mut own, all: Some(&mut flows) }.charge(&flood, 2, 0);
            *round > 2 * COMES
        });
        let waited = began.expect("at some time") - COMES;
        assert!(waited <= STEPS, "{waited} rounds: it is next when the one that runs has ended");
    }

    #[test]
    fn batch_work_with_seeds_has_an_eighth() {
        let steps = rounds(9_000, &[flow("b", Priority::Interactive)], &[flow("a", Priority::Batch)]);
        assert!((1_000..=1_800).contains(&steps[0]), "{steps:?}");
    }

    #[test]
    fn without_others_it_is_always_their_turn() {
        let mut turns = Turns::default();
        assert!((0..10).all(|_| turns.exact_is_due(1e9, f64::INFINITY)));
    }
}

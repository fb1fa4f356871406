//! Who may run: by fairness between tenants, by room in the context, and not before a sibling has computed what
//! both have in common.

use std::sync::atomic::Ordering::Relaxed;

use llama_cpp_2::token::LlamaToken;
use worker_protocol::Priority;

use super::batch::schedule::Need;
use super::queue::Work;
use super::queue::flows::{Flow, Flows};
use super::sequence::Sequence;
use super::thread::{Lane, Thread};
use crate::error::Error;

/// A common beginning of fewer tokens is not worth waiting for.
const WORTH_WAITING: usize = 16;
/// Room for this many tokens of the completion is asked for before a prompt begins.
const HEADROOM: usize = 64;

impl Thread<'_> {
    /// Lets in what may run now.
    pub(super) fn admit(&mut self, flows: &Flows) -> Result<(), Error> {
        let mut pauses = 0;
        loop {
            let Some((at, next)) = self.queue.next(flows, |work| !self.sibling_computes(work)) else { return Ok(()) };
            let Some(mut victims) = self.victims(next, flows) else { return Ok(()) };
            pauses += victims.len();
            if pauses > self.slots {
                return Ok(());
            }
            // Taken out before the others are put in: the place is for this one.
            let work = self.queue.take(at);
            if !work.begin() {
                work.turn_away();
                continue;
            }
            // From behind, so that the others' places stay what they are.
            victims.sort_unstable();
            victims.into_iter().rev().for_each(|victim| self.pause(victim));
            self.start(work)?;
        }
    }

    /// Who has to make room for this one: nobody, if there is a slot and cells enough for it. `None` if it has to wait, because
    /// even without all that should make room for it there would not be.
    fn victims(&self, work: &Work, flows: &Flows) -> Option<Vec<usize>> {
        let mut victims = Vec::new();
        while self.running.len() - victims.len() >= self.slots || !self.has_room_for(work, &victims) {
            // Whoever has a seed would have to begin anew, and with a long answer would never come to its end.
            if self.lane != Lane::Shared {
                return None;
            }
            let left: Vec<_> = self.but_for(&victims).collect();
            victims.push(victim(&left, left.len() < self.slots, work.flow(), flows)?);
        }
        Some(victims)
    }

    /// One that runs is just computing what this one begins with, too.
    fn sibling_computes(&self, work: &Work) -> bool {
        let Work::New(job) = work else { return false };
        let prefilling = self.running.iter().filter(|running| matches!(running.need(), Need::Prefill(_)));
        let mut siblings =
            prefilling.filter(|running| running.partition == job.partition && rank(&running.flow) <= rank(&job.flow)).peekable();
        if siblings.peek().is_none() {
            return false;
        }
        let known = self.cells.known(&job.partition, &job.prompt);
        let most = job.prompt.len().saturating_sub(1);
        siblings.any(|running| common(running.tokens(), &job.prompt).min(most) > known + WORTH_WAITING)
    }

    /// It fits beside what is being computed but for those at the places `gone`; alone it always does.
    fn has_room_for(&self, work: &Work, gone: &[usize]) -> bool {
        let (partition, tokens) = match work {
            Work::New(job) => (&job.partition, job.prompt.as_slice()),
            Work::Paused(sequence) => (&sequence.partition, sequence.tokens()),
        };
        let missing = tokens.len() - self.cells.known(partition, tokens);
        // What those that run have still to compute is spoken for.
        let promised: usize = self.but_for(gone).map(|(_, running)| running.tokens().len() - running.done()).sum();
        let ended = gone.iter().map(|at| self.running[*at].seq);
        self.running.len() == gone.len() || missing + promised + HEADROOM <= self.cells.available(partition, tokens, ended)
    }

    fn start(&mut self, work: Work) -> Result<(), Error> {
        let begun = match &work {
            Work::New(job) => self.cells.begin(&job.partition, &job.prompt),
            Work::Paused(sequence) => self.cells.begin(&sequence.partition, sequence.tokens()),
        };
        let begun = begun.ok_or_else(|| Error::Engine("there are fewer sequences than slots".into()))?;
        self.context.apply(self.cells.take_ops())?;
        let sequence = match work {
            Work::New(job) => {
                let seen = job.prompt.len().saturating_sub(job.params.repeat_window);
                let recent: Vec<LlamaToken> = job.prompt[seen..].iter().filter(|token| !self.vocab.is_eog(**token)).copied().collect();
                let mut sequence = Sequence::start(*job, begun.seq, begun.reused);
                recent.into_iter().for_each(|token| sequence.sampler.remember(token.0));
                let usage = sequence.usage();
                if sequence.is_first() {
                    self.shared.house.totals.started(usage.prompt_tokens, usage.cached_tokens);
                }
                tracing::debug!(id = %sequence.id, seq = sequence.seq, ?usage, "prefill begins");
                sequence
            }
            Work::Paused(mut sequence) => {
                sequence.resume(begun.seq, begun.reused);
                tracing::debug!(id = %sequence.id, seq = sequence.seq, reused = begun.reused, "goes on");
                *sequence
            }
        };
        self.running.push(sequence);
        Ok(())
    }

    /// What runs and is not at one of the places `gone`.
    fn but_for(&self, gone: &[usize]) -> impl Iterator<Item = (usize, &Sequence)> {
        self.running.iter().enumerate().filter(|(at, _)| !gone.contains(at))
    }

    /// Whoever has least claim to go on when the context is full: batch before interactive, the tenant served
    /// most, the latest.
    pub(super) fn least_entitled(&self, flows: &Flows) -> Option<usize> {
        last(self.running.iter().enumerate(), |sequence| flows.served(&sequence.flow))
    }

    /// Takes one out; what it has computed stays as long as nobody else needs the room.
    pub(super) fn pause(&mut self, at: usize) {
        let sequence = self.running.remove(at);
        self.cells.end(sequence.seq);
        self.shared.house.totals.pauses.fetch_add(1, Relaxed);
        tracing::debug!(id = %sequence.id, done = sequence.done(), "makes room");
        self.queue.push(Work::Paused(Box::new(sequence)));
    }
}

/// Who of those that run should make room for a waiting flow: the latest of the flow that has most, if it has so many that it
/// still has as many as the other one afterwards; or batch work, for somebody who has nothing running. Where there is a `slot`
/// and only cells are missing, a flow that was served less does not make room: of those who fill the context, the one with
/// the least claim has just done so.
fn victim(running: &[(usize, &Sequence)], slot: bool, flow: &Flow, flows: &Flows) -> Option<usize> {
    let count = |flow: &Flow| running.iter().filter(|(_, sequence)| sequence.flow == *flow).count();
    #[expect(clippy::cast_precision_loss, reason = "there are few slots")]
    let share = |count: usize, flow: &Flow| count as f64 / flows.weight(flow);
    let mine = count(flow);
    let wanted = share(mine + 1, flow);
    let candidates = running.iter().copied().filter(|(_, sequence)| {
        let theirs = &sequence.flow;
        let owes = !slot || flows.served(theirs) > flows.served(flow);
        let has_more = owes && share(count(theirs) - 1, theirs) >= wanted;
        theirs != flow && (has_more || (mine == 0 && rank(theirs) > rank(flow)))
    });
    last(candidates, |sequence| share(count(&sequence.flow), &sequence.flow))
}

/// The one with the least claim: batch before interactive, then by what its flow `has`, then the latest.
fn last<'a>(sequences: impl Iterator<Item = (usize, &'a Sequence)>, has: impl Fn(&Sequence) -> f64) -> Option<usize> {
    let order = |(_, a): &(usize, &Sequence), (_, b): &(usize, &Sequence)| {
        rank(&a.flow).cmp(&rank(&b.flow)).then(has(a).total_cmp(&has(b))).then(a.arrived.cmp(&b.arrived))
    };
    sequences.max_by(order).map(|(at, _)| at)
}

fn rank(flow: &Flow) -> u8 {
    match flow.priority {
        Priority::Interactive => 0,
        Priority::Batch => 1,
    }
}

fn common(a: &[LlamaToken], b: &[LlamaToken]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use contract::model::Sampling;

    use super::*;
    use crate::engine::sequence::tests::start;

    fn flow(tenant: &str, priority: Priority) -> Flow {
        Flow { tenant: tenant.into(), priority }
    }

    /// Running sequences of these flows, in order of arrival.
    fn running(flows: &[&Flow]) -> Vec<Sequence> {
        let began = Instant::now();
        let sequence = |(place, flow): (u64, &&Flow)| {
            let (mut sequence, _) = start(3, &Sampling::default(), &[]);
            sequence.flow = Flow::clone(flow);
            sequence.arrived = began + Duration::from_secs(place);
            sequence
        };
        (0..).zip(flows).map(sequence).collect()
    }

    /// All have work, and so many prompt tokens were computed for each.
    fn served(list: &[(&Flow, usize)]) -> Flows {
        let mut flows = Flows::default();
        flows.present(list.iter().map(|(flow, _)| (*flow, 1)));
        list.iter().for_each(|(flow, tokens)| flows.charge(flow, *tokens, 0));
        flows
    }

    /// Who of `all` makes room for one of `flow`.
    fn gives_way(all: &[Sequence], slot: bool, flow: &Flow, flows: &Flows) -> Option<usize> {
        let all: Vec<_> = all.iter().enumerate().collect();
        victim(&all, slot, flow, flows)
    }

    #[test]
    fn batch_work_makes_room_for_a_person_whether_slots_or_only_cells_are_missing() {
        let (person, batch) = (flow("a", Priority::Interactive), flow("b", Priority::Batch));
        // As after a long conversation: by what was served alone, batch work would owe nothing.
        let flows = served(&[(&person, 100_000), (&batch, 0)]);
        let of_batch = running(&[&batch, &batch]);
        for slot in [false, true] {
            assert_eq!(
                gives_way(&of_batch, slot, &person, &flows),
                Some(1),
                "slot: {slot}. If you are here because this failed: a person waits until batch work that fills the worker has been written."
            );
        }
        assert_eq!(gives_way(&running(&[&batch, &person]), true, &person, &flows), None, "only for somebody who has nothing running");
        let flows = served(&[(&person, 0), (&batch, 0)]);
        assert_eq!(gives_way(&running(&[&person, &person]), true, &batch, &flows), None, "nor is it the other way round");
    }

    #[test]
    fn where_only_cells_are_missing_who_was_served_less_makes_no_room() {
        let (less, more) = (flow("less", Priority::Interactive), flow("more", Priority::Interactive));
        let flows = served(&[(&less, 0), (&more, 1000)]);
        let of_less = running(&[&less, &less]);
        assert_eq!(
            gives_way(&of_less, true, &more, &flows),
            None,
            "If you are here because this failed: whoever had to make room because the context is full takes it back at once."
        );
        assert_eq!(gives_way(&of_less, false, &more, &flows), Some(1), "of slots everybody has as many");
        assert_eq!(gives_way(&running(&[&more, &more]), true, &less, &flows), Some(1), "who was served more does");
    }
}

//! Fairness between tenants: who was served how much.
//!
//! Each flow (a tenant's interactive or batch work) has a counter of the tokens computed for it, divided by its
//! weight; whoever has the lowest is next. This is the virtual token counter of Sheng et al., "Fairness in
//! Serving Large Language Models" (OSDI 2024). A flow that comes back after a pause is lifted near the others, so
//! that idleness cannot be saved up; the small credit that it keeps lets a single question of a quiet tenant
//! pass a flood at full speed.

use std::collections::HashMap;

use worker_protocol::Priority;

/// What a prompt token and a completion token count for.
const PROMPT: f64 = 1.0;
const COMPLETION: f64 = 2.0;
/// Head start of a flow that was quiet, in counted tokens.
const CREDIT: f64 = 4096.0;
/// Batch work gets this part of an interactive share where both want all.
const BATCH: f64 = 1.0 / 8.0;

/// Whose work something is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub tenant: String,
    pub priority: Priority,
}

impl Flow {
    /// What work of its kind gets of a share.
    pub fn part(&self) -> f64 {
        match self.priority {
            Priority::Interactive => 1.0,
            Priority::Batch => BATCH,
        }
    }
}

#[derive(Debug)]
struct Account {
    served: f64,
    weight: f64,
    /// The turn in which it had work last.
    turn: u64,
}

/// The counters of all flows that have work or a debt.
#[derive(Debug, Default)]
pub struct Flows {
    accounts: HashMap<Flow, Account>,
    /// The counter that all interactive flows with work have reached (all flows, if none is interactive), so that of the one
    /// served least; never goes back. What runs anyway may be far ahead of it: those who come new do not have to wait until
    /// others are, too.
    time: f64,
    /// Counts the calls of [`Flows::present`].
    turn: u64,
}

impl Flows {
    /// Tells which flows have work now, with their weights. New ones and those that come back are lifted near the
    /// rest; who waits keeps its claim, however long others' answers take. Those that have no work and owe nothing
    /// are forgotten.
    pub fn present<'a>(&mut self, flows: impl Iterator<Item = (&'a Flow, u16)>) {
        let least = |priority: Priority| {
            let in_service = self.accounts.iter().filter(|(flow, account)| account.turn == self.turn && flow.priority == priority);
            in_service.map(|(_, account)| account.served).reduce(f64::min)
        };
        // Batch work may wait for hours without being served.
        if let Some(least) = least(Priority::Interactive).or_else(|| least(Priority::Batch)) {
            self.time = self.time.max(least);
        }
        self.turn += 1;
        for (flow, weight) in flows {
            let credit = if flow.priority == Priority::Batch { 0.0 } else { CREDIT };
            let weight = f64::from(weight.max(1)) * flow.part();
            let floor = self.time - credit / weight;
            let account = self.accounts.entry(flow.clone()).or_insert(Account { served: floor, weight, turn: self.turn });
            if account.turn + 1 < self.turn {
                account.served = account.served.max(floor);
            }
            account.weight = weight;
            account.turn = self.turn;
        }
        self.accounts.retain(|_, account| account.served > self.time || account.turn == self.turn);
    }

    /// Counts what was computed for a flow.
    pub fn charge(&mut self, flow: &Flow, prompt: usize, completion: usize) {
        if let Some(account) = self.accounts.get_mut(flow) {
            account.served += cost(prompt, completion) / account.weight;
        }
    }

    /// The lower, the sooner its turn.
    pub fn served(&self, flow: &Flow) -> f64 {
        self.accounts.get(flow).map_or(0.0, |account| account.served)
    }

    /// What the one of these that was served least was served; infinite if there is none.
    pub fn least<'a>(&self, flows: impl Iterator<Item = &'a Flow>) -> f64 {
        flows.map(|flow| self.served(flow)).fold(f64::INFINITY, f64::min)
    }

    /// What so much work would add to [`Flows::served`].
    pub fn price(&self, flow: &Flow, prompt: usize, completion: usize) -> f64 {
        cost(prompt, completion) / self.weight(flow)
    }

    /// Its part relative to the others.
    pub fn weight(&self, flow: &Flow) -> f64 {
        self.accounts.get(flow).map_or(1.0, |account| account.weight)
    }
}

/// Where a context books what it computes.
pub struct Books<'a> {
    /// Decides who is next in it.
    pub own: &'a mut Flows,
    /// Counts the same beside what other contexts compute.
    pub all: Option<&'a mut Flows>,
}

impl Books<'_> {
    /// See [`Flows::charge`].
    pub fn charge(&mut self, flow: &Flow, prompt: usize, completion: usize) {
        self.own.charge(flow, prompt, completion);
        if let Some(all) = &mut self.all {
            all.charge(flow, prompt, completion);
        }
    }
}

fn cost(prompt: usize, completion: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (prompt, completion) = (prompt as f64, completion as f64);
    prompt * PROMPT + completion * COMPLETION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(tenant: &str) -> Flow {
        Flow { tenant: tenant.into(), priority: Priority::Interactive }
    }

    fn present(flows: &mut Flows, list: &[&Flow]) {
        flows.present(list.iter().map(|flow| (*flow, 1)));
    }

    /// Serves `turns` times whoever is next, 100 tokens each; returns how often each was.
    fn serve(flows: &mut Flows, list: &[(&Flow, u16)], turns: usize) -> Vec<usize> {
        let mut count = vec![0; list.len()];
        for _ in 0..turns {
            flows.present(list.iter().map(|(flow, weight)| (*flow, *weight)));
            let next = (0..list.len()).min_by(|a, b| flows.served(list[*a].0).total_cmp(&flows.served(list[*b].0))).unwrap();
            flows.charge(list[next].0, 100, 0);
            count[next] += 1;
        }
        count
    }

    #[test]
    fn shares_follow_the_weights() {
        let (a, b) = (flow("a"), flow("b"));
        assert_eq!(serve(&mut Flows::default(), &[(&a, 1), (&b, 1)], 1000), [500, 500]);
        // In the long run: the credits of the beginning are small against it.
        let count = serve(&mut Flows::default(), &[(&a, 3), (&b, 1)], 10_000);
        assert!((7_400..=7_600).contains(&count[0]), "{count:?}");
    }

    #[test]
    fn batch_work_gets_little_but_not_nothing() {
        let (a, b) = (flow("a"), Flow { tenant: "b".into(), priority: Priority::Batch });
        let count = serve(&mut Flows::default(), &[(&a, 1), (&b, 1)], 2000);
        assert!((100..=500).contains(&count[1]), "{count:?}");
    }

    #[test]
    fn a_quiet_tenant_passes_a_flood_but_saves_nothing_up() {
        let (flood, quiet) = (flow("flood"), flow("quiet"));
        let mut flows = Flows::default();
        serve(&mut flows, &[(&flood, 1)], 10_000);
        let count = serve(&mut flows, &[(&flood, 1), (&quiet, 1)], 30);
        assert_eq!(count, [0, 30], "its first question goes first");
        let count = serve(&mut flows, &[(&flood, 1), (&quiet, 1)], 400);
        assert!(count[0] >= 190, "{count:?}");
    }

    /// One slot: whoever has it keeps it for a whole answer.
    #[test]
    fn shares_follow_the_weights_however_long_answers_are() {
        let (heavy, light) = (flow("heavy"), flow("light"));
        let (mut flows, mut count) = (Flows::default(), [0, 0]);
        let list = [(&heavy, 4), (&light, 1)];
        for _ in 0..1000 {
            flows.present(list.into_iter());
            let next = usize::from(flows.served(&light) < flows.served(&heavy));
            for _ in 0..2000 {
                flows.present(list.into_iter());
                flows.charge(list[next].0, 0, 1);
            }
            count[next] += 1;
        }
        assert!((780..=820).contains(&count[0]), "{count:?}: who waits loses its claim while somebody else's answer is written");
    }

    #[test]
    fn one_that_runs_far_ahead_holds_no_newcomer_back() {
        let (flood, batch, quiet) = (flow("flood"), Flow { tenant: "batch".into(), priority: Priority::Batch }, flow("quiet"));
        let mut flows = Flows::default();
        for _ in 0..1000 {
            flows.present([(&flood, 1), (&batch, 1)].into_iter());
            flows.charge(&flood, 0, 3);
            flows.charge(&batch, 0, 1);
        }
        flows.present([(&flood, 1), (&batch, 1), (&quiet, 1)].into_iter());
        assert!(
            flows.served(&quiet) < flows.served(&flood),
            "If you are here because this failed: beside a batch answer, who comes new waits behind a whole flood."
        );
    }

    #[test]
    fn batch_work_that_waits_lets_nobody_save_up() {
        let (busy, batch, quiet) = (flow("busy"), Flow { tenant: "batch".into(), priority: Priority::Batch }, flow("quiet"));
        let mut flows = Flows::default();
        for _ in 0..10_000 {
            flows.present([(&busy, 1), (&batch, 1)].into_iter());
            flows.charge(&busy, 0, 3);
        }
        flows.present([(&busy, 1), (&batch, 1), (&quiet, 1)].into_iter());
        let ahead = flows.served(&busy) - flows.served(&quiet);
        assert!((0.0..=CREDIT + 6.0).contains(&ahead), "{ahead}: who comes new would be served alone for a long time");
    }

    #[test]
    fn who_was_served_too_much_cannot_wash_it_off_by_going_away() {
        let (a, b) = (flow("a"), flow("b"));
        let mut flows = Flows::default();
        present(&mut flows, &[&a, &b]);
        flows.charge(&a, 10_000, 0);
        present(&mut flows, &[&b]);
        present(&mut flows, &[&a, &b]);
        assert!(flows.served(&a) > flows.served(&b));
    }

    #[test]
    fn flows_without_work_or_debt_are_forgotten() {
        let mut flows = Flows::default();
        for n in 0..100 {
            present(&mut flows, &[&flow(&n.to_string())]);
        }
        assert!(flows.accounts.len() <= 2, "{}", flows.accounts.len());
    }
}

//! What processes settled beside what the ledger has.

use crate::ledger::{open, settle, settlement, usage};
use contract::{Millis, account::Role, ids::NodeId};
use domain::{Actor, Clock, SystemClock};
use store::{
    Reason, SystemTx,
    ledger_counts::{Compared, Counts, Drift, Figures},
    usage::{NewUsage, Outcome},
};
use testkit::{TestDb, ledger::execute_as_owner};
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

const DAY_MS: Millis = 24 * 60 * 60 * 1000;
/// Of one use, as [`settlement`] has it.
const ONE: Figures = Figures { uses: 1, prompt_tokens: 10, cached_tokens: 4, completion_tokens: 7 };

/// A process that settles uses of somebody.
struct Process {
    test: TestDb,
    who: Actor,
    node: NodeId,
    counts: Counts,
}

impl Process {
    async fn new() -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await;
        let who = testkit::user(&test, &tenant, &[Role::User]).await;
        Self { test, who, node: NodeId(Uuid::now_v7()), counts: Counts::default() }
    }

    async fn system(&self) -> SystemTx {
        self.test.db.begin_system("test", Reason::Sweep).await.unwrap()
    }

    /// Counts and settles a use that was opened then.
    async fn settles(&mut self, at: Millis) -> NewUsage {
        let new = NewUsage { node: self.node, ..usage(&self.who, at) };
        let with = settlement(&new, Outcome::Ok, at + 1_000);
        self.counts.add(&with);
        self.test.db.write_ledger(&[&new], &[&with]).await.unwrap();
        new
    }

    async fn tells(&mut self) {
        let untold = self.counts.untold();
        let tx = self.system().await;
        tx.ledger_counts().tell(self.node, &untold).await.unwrap();
        tx.commit().await.unwrap();
        self.counts.told(&untold, SystemClock.now());
        assert!(self.counts.untold().is_empty());
    }

    async fn compare(&self, day: Date) -> Vec<Compared> {
        self.system().await.ledger_counts().compare(day).await.unwrap()
    }

    /// The only line of a day.
    async fn only(&self, day: Date) -> Compared {
        let all = self.compare(day).await;
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }
}

/// Noon of yesterday.
fn yesterday() -> (Date, Millis) {
    let at = (SystemClock.now().div_euclid(DAY_MS) - 1) * DAY_MS + DAY_MS / 2;
    (OffsetDateTime::from_unix_timestamp(at / 1000).unwrap().date(), at)
}

/// Past what forbids it.
async fn forge(test: &TestDb, sql: &str) {
    execute_as_owner(test, &format!("SET session_replication_role = replica; {sql}")).await;
}

#[tokio::test]
async fn rows_that_are_changed_or_gone_are_noticed_with_their_amounts() {
    let (mut process, (day, noon)) = (Process::new().await, yesterday());
    let (first, second) = (process.settles(noon).await, process.settles(noon + 1).await);
    process.tells().await;
    let both = ONE.plus(ONE);
    let same = process.only(day).await;
    assert_eq!((same.counted, same.ledger, same.untold, same.node), (both, both, false, Some(process.node)));
    assert_eq!((same.drift(), same.tenant), (Figures::default(), process.who.tenant()));

    let first = first.id;
    forge(&process.test, &format!("UPDATE usage_event SET prompt_tokens = 13, completion_tokens = 5 WHERE id = '{first}'")).await;
    let all = process.compare(day).await;
    assert_eq!(
        (all[0].drift(), Drift::of(&all)),
        (Figures { prompt_tokens: 3, completion_tokens: -2, ..Figures::default() }, Drift { uses: 0, tokens: 5 }),
        "If you are here because this failed: money can be taken out of the ledger, or put into it, and nobody notices."
    );
    forge(&process.test, &format!("DELETE FROM usage_event WHERE id IN ('{first}', '{}')", second.id)).await;
    let all = process.compare(day).await;
    assert_eq!((all[0].ledger, Drift::of(&all)), (Figures::default(), Drift { uses: 2, tokens: 42 }), "too much and too little");
}

#[tokio::test]
async fn what_a_process_could_not_tell_is_no_difference_but_what_it_told_must_be_there() {
    let (mut process, (day, noon)) = (Process::new().await, yesterday());
    let first = process.settles(noon).await;
    // It is killed before it tells anything, then after it told of the first.
    assert_eq!((process.only(day).await.untold, Drift::of(&process.compare(day).await)), (true, Drift::default()));
    process.tells().await;
    process.settles(noon + 5_000).await;
    let compared = process.only(day).await;
    assert_eq!((compared.untold, compared.drift(), compared.ledger.uses), (true, Figures::default(), 2));
    forge(&process.test, &format!("DELETE FROM usage_event WHERE id = '{}'", first.id)).await;
    assert_eq!(process.only(day).await.drift(), Figures::default(), "as many as it told of are there: nobody can know");
    forge(&process.test, "DELETE FROM usage_event").await;
    assert_eq!(Drift::of(&process.compare(day).await), Drift { uses: 1, tokens: 21 });
}

#[tokio::test]
async fn days_are_those_of_the_request_and_what_has_no_figures_is_not_compared() {
    let (mut process, (day, noon)) = (Process::new().await, yesterday());
    // The last moment of the day, settled on the next one.
    let (last, midnight) = (noon + DAY_MS / 2 - 1, noon + DAY_MS / 2);
    process.settles(last).await;
    process.settles(midnight).await;
    process.tells().await;
    assert_eq!((process.only(day).await.counted, process.only(day).await.ledger), (ONE, ONE));
    assert_eq!(process.only(day + Duration::DAY).await.ledger, ONE);
    let left = NewUsage { node: process.node, ..usage(&process.who, noon) };
    open(&process.test, &left).await;
    assert_eq!((process.only(day).await.running, process.only(day).await.drift()), (1, Figures::default()));
    assert!(settle(&process.test, &left, Outcome::Swept, noon + 60_000).await);
    let compared = process.only(day).await;
    assert_eq!((compared.running, compared.swept, compared.ledger, compared.untold), (0, 1, ONE, false));
}

#[tokio::test]
async fn what_was_told_before_does_not_replace_what_was_told_later() {
    let (mut process, (day, noon)) = (Process::new().await, yesterday());
    process.settles(noon).await;
    let before = process.counts.untold();
    process.settles(noon + 1).await;
    process.tells().await;
    let tx = process.system().await;
    tx.ledger_counts().tell(process.node, &before).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((process.only(day).await.counted, process.only(day).await.drift()), (ONE.plus(ONE), Figures::default()));
    // An organisation takes along what was counted for it, and what is told later still is nobody's.
    let tenant = process.who.tenant();
    execute_as_owner(&process.test, &format!("DELETE FROM tenant WHERE id = '{tenant}'")).await;
    assert!(process.compare(day).await.is_empty());
    let tx = process.system().await;
    tx.ledger_counts().tell(process.node, &before).await.unwrap();
    tx.commit().await.unwrap();
    assert!(process.compare(day).await.is_empty());
}

#[tokio::test]
async fn a_closed_day_is_compared_once_a_night_and_again_if_something_came_late() {
    let (mut process, (day, noon)) = (Process::new().await, yesterday());
    process.settles(noon).await;
    process.tells().await;
    let now = SystemClock.now();
    let due = async |process: &Process, at| process.system().await.ledger_counts().due(at).await.unwrap();
    let close = async |process: &Process, at| {
        let tx = process.system().await;
        tx.ledger_days().prepare().await.unwrap();
        tx.commit().await.unwrap();
        let tx = process.system().await;
        assert!(tx.ledger_days().close(day, at).await.unwrap());
        tx.commit().await.unwrap();
    };
    assert!(due(&process, now).await.is_empty(), "it is not closed");
    close(&process, now).await;
    assert_eq!(due(&process, now).await, [day]);
    let note = async |process: &Process, drift, at| {
        let tx = process.system().await;
        let news = tx.ledger_counts().note(day, drift, at).await.unwrap();
        tx.commit().await.unwrap();
        news
    };
    assert!(note(&process, Drift::default(), now).await, "that it agrees is told once");
    assert!(due(&process, now).await.is_empty());
    assert_eq!(due(&process, now + DAY_MS).await, [day]);
    assert!(!note(&process, Drift::default(), now).await);
    let drift = Drift { uses: 1, tokens: 21 };
    assert!(note(&process, drift, now).await && !note(&process, drift, now).await);
    assert_eq!(process.system().await.ledger_counts().standing(now).await.unwrap(), drift);
    assert_eq!(process.system().await.ledger_counts().standing(now + 7 * DAY_MS).await.unwrap(), Drift::default(), "not for ever");
    process.settles(noon + 2).await;
    assert!(due(&process, now).await.is_empty(), "it is open again");
    close(&process, now + 1).await;
    assert_eq!(due(&process, now + 1).await, [day]);
    // One process at a time.
    let (one, other) = (process.system().await, process.system().await);
    assert!(one.ledger_counts().alone().await.unwrap() && !other.ledger_counts().alone().await.unwrap());
}

//! Batches: whose they are, who is at them, what becomes of their lines.

use contract::ids::{BatchId, FileId, RequestId, ServiceAccountId};
use domain::{Actor, Clock, DataClass, SystemClock};
use serde_json::json;
use std::time::Duration;
use store::{
    Reason,
    batch_runs::{BatchEnd, BatchLine, InVain, LineEnd},
    batches::{BatchStatus, NewBatch},
    files::{NewFile, Slice},
};
use testkit::{TestDb, ledger::execute_as_owner};
use uuid::Uuid;

const DEAD: u32 = 15;

/// A tenant with a program and a batch.
struct House {
    test: TestDb,
    actor: Actor,
    id: BatchId,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await;
        let actor = testkit::program(&test, &tenant).await;
        let id = add(&test, &actor).await;
        Self { test, actor, id }
    }

    async fn take(&self, lease: Uuid) -> bool {
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        let taken = tx.batch_runs().take(self.id, lease, DEAD).await.unwrap();
        tx.commit().await.unwrap();
        taken.is_some()
    }

    /// Lines 1 to `n`, running.
    async fn start(&self, lease: Uuid, n: u32) {
        let lines = (1..=n).map(|number| BatchLine { number, custom_id: format!("line-{number}"), body: r#"{"a": "\u0000"}"#.into() });
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        assert!(tx.batch_runs().add_lines(self.id, lease, lines.collect()).await.unwrap());
        assert!(tx.batch_runs().start(self.id, lease, n, SystemClock.now()).await.unwrap());
        tx.commit().await.unwrap();
    }

    async fn end_line(&self, lease: Uuid, number: u32, status: u16) -> bool {
        let end = LineEnd { request: RequestId(Uuid::now_v7()), status, response: format!(r#"{{"n":{number}}}"#) };
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        let ended = tx.batch_runs().end_line(self.id, lease, number, &end).await.unwrap();
        if ended {
            tx.commit().await.unwrap();
        }
        ended
    }
}

fn new_batch(actor: &Actor) -> NewBatch {
    let program = actor.as_program().unwrap();
    NewBatch {
        id: BatchId(Uuid::now_v7()),
        account: program.account,
        key: program.key,
        endpoint: "/v1/chat/completions".into(),
        input: FileId(Uuid::now_v7()),
        metadata: json!({ "a": "b" }),
        class: actor.class(),
        reserved: 5,
        created_at: SystemClock.now(),
        expires_at: SystemClock.now() + 60_000,
    }
}

async fn add(test: &TestDb, actor: &Actor) -> BatchId {
    let new = new_batch(actor);
    let tx = test.db.begin(actor).await.unwrap();
    tx.batches().insert(&new).await.unwrap();
    tx.commit().await.unwrap();
    new.id
}

fn account(actor: &Actor) -> ServiceAccountId {
    actor.as_program().unwrap().account
}

#[tokio::test]
async fn a_batch_is_its_accounts_alone() {
    let house = House::build().await;
    let tenant = testkit::TestTenant { id: house.actor.tenant() };
    let colleague = account(&testkit::program(&house.test, &tenant).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let (all, now) = (Slice { after: None, limit: 10, ascending: false }, SystemClock.now());
    assert!(tx.batches().get(colleague, house.id).await.unwrap().is_none());
    assert!(tx.batches().list(colleague, all).await.unwrap().is_empty());
    assert!(!tx.batches().request_cancel(colleague, house.id, now).await.unwrap());
    let own = tx.batches().list(account(&house.actor), all).await.unwrap();
    assert_eq!((own.len(), own[0].id, own[0].status, own[0].total), (1, house.id, BatchStatus::Validating, 0));
    assert!(tx.batches().request_cancel(account(&house.actor), house.id, now).await.unwrap());
    let cancelling = tx.batches().get(account(&house.actor), house.id).await.unwrap().unwrap();
    assert_eq!((cancelling.status, cancelling.cancelling_at.is_some()), (BatchStatus::Cancelling, true));
    assert!(!tx.batches().request_cancel(account(&house.actor), house.id, now).await.unwrap(), "once is enough");
}

#[tokio::test]
async fn a_batch_keeps_the_class_of_the_call_that_made_it() {
    let house = House::build().await;
    let id = add(&house.test, &house.actor.clone().raised_to(DataClass::Confidential)).await;
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let class = async |id| tx.batch_runs().take(id, Uuid::now_v7(), DEAD).await.unwrap().unwrap().class;
    assert_eq!(
        (class(id).await, class(house.id).await),
        (DataClass::Confidential, DataClass::Internal),
        "If you are here because this failed: the lines of a batch go where the call that brought them could not have sent them."
    );
}

#[tokio::test]
async fn one_node_is_at_a_batch_and_a_dead_one_loses_it() {
    let house = House::build().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let idle = async || {
        let tx = house.test.db.begin_system("test", Reason::Sweep).await.unwrap();
        tx.batches().idle(DEAD, 4).await.unwrap().len()
    };
    assert_eq!(idle().await, 1);
    assert!(house.take(first).await && !house.take(second).await);
    assert_eq!(idle().await, 0);
    house.start(first, 3).await;
    assert!(house.end_line(first, 1, 200).await);
    assert!(!house.end_line(first, 1, 200).await, "a line ends once");
    execute_as_owner(&house.test, "UPDATE batch SET heartbeat_at = now() - interval '1 minute'").await;
    assert_eq!(idle().await, 1);
    assert!(house.take(second).await);
    assert!(
        !house.end_line(first, 2, 200).await,
        "If you are here because this failed: a node that was slow would write over another's work."
    );
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let (runs, now) = (tx.batch_runs(), SystemClock.now());
    assert_eq!(runs.heartbeat(house.id, first).await.unwrap(), None);
    assert_eq!(runs.heartbeat(house.id, second).await.unwrap(), Some(false));
    assert!(!runs.start(house.id, first, 9, now).await.unwrap());
    assert!(!runs.add_lines(house.id, first, vec![BatchLine { number: 9, custom_id: "x".into(), body: "{}".into() }]).await.unwrap());
    assert!(
        !runs.clear_lines(house.id, first).await.unwrap(),
        "If you are here because this failed: a node that was slow would forget the lines of another's run."
    );
    assert_eq!(runs.finalize(house.id, first, now).await.unwrap(), None);
    assert_eq!(runs.delete_lines(house.id, 10).await.unwrap(), 0, "it has not ended");
    let waiting = runs.waiting(house.id, 0, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 3], "what was answered is not asked again");
    assert_eq!(waiting[0].body, r#"{"a": "\u0000"}"#, "as the client wrote it");
    runs.release(house.id, second, Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(idle().await, 1);
}

#[tokio::test]
async fn a_batch_that_waits_is_left_alone_until_its_time_has_come_or_its_end_is_asked_for() {
    let house = House::build().await;
    let lease = Uuid::now_v7();
    let idle = async || {
        let tx = house.test.db.begin_system("test", Reason::Sweep).await.unwrap();
        tx.batches().idle(DEAD, 4).await.unwrap().len()
    };
    let wait = async |lease| {
        let tx = house.test.db.begin(&house.actor).await.unwrap();
        tx.batch_runs().release(house.id, lease, Duration::from_secs(600)).await.unwrap();
        tx.commit().await.unwrap();
    };
    assert!(house.take(lease).await);
    wait(lease).await;
    assert_eq!(idle().await, 0);
    assert!(!house.take(lease).await, "If you are here because this failed: batches that wait keep others from being worked off.");
    let late = "SELECT count(*) AS value FROM batch WHERE waits_until > expires_at";
    assert_eq!(house.test.count_as_owner(late).await, 0, "nobody waits longer than its window");
    execute_as_owner(&house.test, "UPDATE batch SET waits_until = now()").await;
    assert_eq!(idle().await, 1);
    assert!(house.take(lease).await);
    wait(lease).await;
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(tx.batches().request_cancel(account(&house.actor), house.id, SystemClock.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(idle().await, 1, "who asks for an end does not wait");
}

#[tokio::test]
async fn what_was_asked_in_vain_is_known_to_the_next_node() {
    let house = House::build().await;
    let (first, second, third) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    assert!(house.take(first).await);
    house.start(first, 3).await;
    let vain = InVain { breaks: 0, absences: 2, refusals: 1 };
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let runs = tx.batch_runs();
    assert!(runs.ask_line(house.id, first, 1).await.unwrap() && runs.ask_line(house.id, first, 2).await.unwrap());
    assert!(!runs.ask_line(house.id, second, 3).await.unwrap() && !runs.ask_line(house.id, first, 4).await.unwrap());
    assert!(runs.put_off_line(house.id, first, 2, vain, Duration::from_secs(60)).await.unwrap());
    assert!(!runs.put_off_line(house.id, second, 3, vain, Duration::from_secs(60)).await.unwrap());
    tx.commit().await.unwrap();
    execute_as_owner(&house.test, "UPDATE batch SET heartbeat_at = now() - interval '1 minute'").await;
    assert!(house.take(second).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let runs = tx.batch_runs();
    let lines = runs.waiting(house.id, 0, 10).await.unwrap();
    let known: Vec<_> = lines.iter().map(|line| (line.vain, line.wait > Duration::from_secs(50))).collect();
    let broken = InVain { breaks: 1, ..InVain::default() };
    assert_eq!(
        known,
        [(broken, false), (vain, true), (InVain::default(), false)],
        "If you are here because this failed: a request that kills its node is asked, and paid for, again and again."
    );
    // Who leaves has not died.
    assert!(runs.ask_line(house.id, second, 3).await.unwrap());
    runs.release(house.id, second, Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    assert!(house.take(third).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert_eq!(tx.batch_runs().waiting(house.id, 2, 10).await.unwrap()[0].vain, InVain::default());
}

#[tokio::test]
async fn who_had_the_batch_before_does_not_write_over_what_the_next_one_counts() {
    let house = House::build().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(house.take(first).await);
    house.start(first, 2).await;
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(tx.batch_runs().ask_line(house.id, first, 1).await.unwrap());
    tx.commit().await.unwrap();
    execute_as_owner(&house.test, "UPDATE batch SET heartbeat_at = now() - interval '1 minute'").await;
    let taking = house.test.db.begin(&house.actor).await.unwrap();
    assert!(taking.batch_runs().take(house.id, second, DEAD).await.unwrap().is_some());
    // The first one was slow, not dead, and writes while the batch is being taken.
    let puts_off = async {
        let tx = house.test.db.begin(&house.actor).await.unwrap();
        let own = tx.batch_runs().put_off_line(house.id, first, 1, InVain::default(), Duration::ZERO).await.unwrap();
        tx.commit().await.unwrap();
        own
    };
    let asks = async {
        let tx = house.test.db.begin(&house.actor).await.unwrap();
        let own = tx.batch_runs().ask_line(house.id, first, 2).await.unwrap();
        tx.commit().await.unwrap();
        own
    };
    let taken = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        taking.commit().await.unwrap();
    };
    let (put_off, asked, ()) = tokio::join!(puts_off, asks, taken);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let breaks = tx.batch_runs().waiting(house.id, 0, 1).await.unwrap()[0].vain.breaks;
    assert_eq!(
        (put_off, asked, breaks),
        (false, false, 1),
        "If you are here because this failed: a request that kills its nodes is asked, and paid for, again and again."
    );
}

#[tokio::test]
async fn what_a_batch_will_write_is_set_aside_until_it_ends_and_open_ones_are_counted() {
    let house = House::build().await;
    let lease = Uuid::now_v7();
    let figures = async || {
        let tx = house.test.db.begin(&house.actor).await.unwrap();
        (tx.batches().open(account(&house.actor)).await.unwrap(), tx.files().total().await.unwrap())
    };
    assert_eq!(figures().await, (1, 5));
    assert!(house.take(lease).await);
    let end = BatchEnd { status: BatchStatus::Failed, output: None, error: None, errors: Vec::new(), never_run: 0, at: SystemClock.now() };
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(tx.batch_runs().end(house.id, lease, &end).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(figures().await, (0, 0));
}

fn output(house: &House) -> NewFile {
    let (id, account) = (FileId(Uuid::now_v7()), account(&house.actor));
    NewFile { id, account, filename: "o".into(), created_at: SystemClock.now(), batch: Some(house.id) }
}

#[tokio::test]
async fn what_a_batch_writes_is_taken_from_what_was_set_aside_and_comes_back_with_it() {
    let house = House::build().await;
    let lease = Uuid::now_v7();
    assert!(house.take(lease).await);
    let (file, other) = (output(&house), output(&house));
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(!tx.batch_runs().own(house.id, Uuid::now_v7()).await.unwrap() && tx.batch_runs().own(house.id, lease).await.unwrap());
    tx.files().begin(&file).await.unwrap();
    tx.files().begin(&other).await.unwrap();
    tx.files().append(file.id, 0, b"one".to_vec()).await.unwrap();
    assert_eq!(
        tx.files().total().await.unwrap(),
        5,
        "If you are here because this failed: what a batch writes counts twice, and its organisation may bring nothing meanwhile."
    );
    tx.files().append(other.id, 0, b"four".to_vec()).await.unwrap();
    assert_eq!(tx.files().total().await.unwrap(), 7, "more than was set aside");
    tx.files().discard(other.id).await.unwrap();
    assert_eq!(tx.files().total().await.unwrap(), 5);
    tx.files().discard(file.id).await.unwrap();
    assert_eq!(tx.files().total().await.unwrap(), 5, "what was set aside is there again");
}

#[tokio::test]
async fn what_a_dead_node_wrote_of_a_batch_gives_its_room_back_to_the_next() {
    let house = House::build().await;
    let dead = Uuid::now_v7();
    assert!(house.take(dead).await);
    let (left, foreign) = (output(&house), NewFile { batch: None, ..output(&house) });
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    for file in [&left, &foreign] {
        tx.files().begin(file).await.unwrap();
        tx.files().append(file.id, 0, b"four".to_vec()).await.unwrap();
    }
    tx.commit().await.unwrap();
    execute_as_owner(&house.test, "UPDATE batch SET heartbeat_at = now() - interval '1 minute'").await;
    let next = Uuid::now_v7();
    assert!(house.take(next).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert_eq!(tx.batch_runs().discard_output(house.id, dead).await.unwrap(), 0, "who has lost a batch removes nothing of it");
    assert_eq!(tx.batch_runs().discard_output(house.id, next).await.unwrap(), 1, "somebody else's upload is none of a batch");
    let again = output(&house);
    tx.files().begin(&again).await.unwrap();
    tx.files().append(again.id, 0, b"two".to_vec()).await.unwrap();
    assert_eq!(
        tx.files().total().await.unwrap(),
        9,
        "If you are here because this failed: what a dead node wrote is not set aside for the next one any more, or counts twice."
    );
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn whoever_sets_room_aside_counts_what_others_set_aside_at_the_same_time() {
    let house = House::build().await;
    let tenant = testkit::TestTenant { id: house.actor.tenant() };
    let colleague = testkit::program(&house.test, &tenant).await;
    let first = house.test.db.begin(&house.actor).await.unwrap();
    first.batches().insert(&new_batch(&house.actor)).await.unwrap();
    first.files().hold_total().await.unwrap();
    assert_eq!(first.files().total().await.unwrap(), 10);
    let second = async {
        let tx = house.test.db.begin(&colleague).await.unwrap();
        tx.batches().insert(&new_batch(&colleague)).await.unwrap();
        tx.files().hold_total().await.unwrap();
        tx.files().total().await.unwrap()
    };
    let committed = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        first.commit().await.unwrap();
    };
    let (total, ()) = tokio::join!(second, committed);
    assert_eq!(total, 15, "If you are here because this failed: several accounts take the same room.");
}

#[tokio::test]
async fn a_batch_ends_with_counts_and_its_lines_go_some_at_a_time() {
    let house = House::build().await;
    let lease = Uuid::now_v7();
    assert!(house.take(lease).await);
    house.start(lease, 4).await;
    assert!(house.end_line(lease, 2, 200).await && house.end_line(lease, 1, 400).await && house.end_line(lease, 3, 200).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let (runs, now) = (tx.batch_runs(), SystemClock.now());
    assert_eq!(runs.finalize(house.id, lease, now).await.unwrap(), Some(4));
    let numbers = async |after, limit, bytes, all| {
        let results = runs.results(house.id, after, limit, bytes, all).await.unwrap();
        results.into_iter().map(|result| (result.number, result.end.map(|end| end.status))).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 10, 1_000, false).await, [(1, Some(400)), (2, Some(200)), (3, Some(200))]);
    assert_eq!(numbers(2, 10, 1_000, true).await, [(3, Some(200)), (4, None)]);
    assert_eq!(numbers(0, 2, 1_000, true).await.len(), 2);
    // Each answer has seven bytes; the one that reaches the limit is still told.
    assert_eq!(numbers(0, 10, 8, true).await.len(), 2);
    let output = Some(FileId(Uuid::now_v7()));
    let end = BatchEnd { status: BatchStatus::Expired, output, error: None, errors: Vec::new(), never_run: 1, at: now };
    assert!(!runs.end(house.id, Uuid::now_v7(), &end).await.unwrap(), "not its own");
    assert!(runs.end(house.id, lease, &end).await.unwrap());
    assert!(!runs.end(house.id, lease, &end).await.unwrap(), "it ends once");
    let stored = tx.batches().get(account(&house.actor), house.id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.total, stored.completed, stored.failed), (BatchStatus::Expired, 4, 2, 2));
    assert_eq!((stored.output, stored.ended_at), (output, Some(now)));
    tx.commit().await.unwrap();
    let left = async || {
        let tx = house.test.db.begin_system("test", Reason::Purge).await.unwrap();
        tx.batches().ended_with_lines().await.unwrap()
    };
    let delete = async |at_most| {
        let tx = house.test.db.begin(&house.actor).await.unwrap();
        let deleted = tx.batch_runs().delete_lines(house.id, at_most).await.unwrap();
        tx.commit().await.unwrap();
        deleted
    };
    assert_eq!(left().await, [(house.actor.tenant(), house.id)], "a node that dies now leaves its lines to the purge");
    assert_eq!((delete(3).await, delete(3).await, delete(3).await), (3, 1, 0));
    assert!(left().await.is_empty());
    let purge = async |before| {
        let tx = house.test.db.begin_system("test", Reason::Purge).await.unwrap();
        let purged = tx.batches().purge(before).await.unwrap();
        tx.commit().await.unwrap();
        purged
    };
    assert_eq!((purge(now).await, purge(now + 1_000).await), (0, 1));
}

#[tokio::test]
async fn each_tenant_is_found_by_its_oldest_batches() {
    let house = House::build().await;
    for _ in 0..5 {
        add(&house.test, &house.actor).await;
    }
    let other = testkit::tenant(&house.test, "b").await;
    let theirs = testkit::program(&house.test, &other).await;
    let last = add(&house.test, &theirs).await;
    let tx = house.test.db.begin_system("test", Reason::Sweep).await.unwrap();
    let idle = tx.batches().idle(DEAD, 2).await.unwrap();
    assert_eq!(idle.len(), 3, "If you are here because this failed: a tenant with many batches keeps the others waiting.");
    assert_eq!((idle[0], idle[2]), ((house.actor.tenant(), house.id), (other.id, last)));
}

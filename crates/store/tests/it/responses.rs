//! Responses: whose they are, how they end, how far back they are read.

use contract::{
    chat::AnswerStats,
    ids::{ResponseId, ServiceAccountId},
    usage::Money,
};
use domain::{Actor, Clock, Error, SystemClock};
use serde_json::{Value, json};
use store::{
    Reason,
    response_runs::Finished,
    responses::{ChainLimits, NewResponse, ResponseStatus},
    turns::Appended,
};
use testkit::{TestDb, ledger::execute_as_owner};
use uuid::Uuid;

const WIDE: ChainLimits = ChainLimits { responses: 100, bytes: 1_000_000 };

/// A tenant with a program and a node.
struct House {
    test: TestDb,
    actor: Actor,
    node: Uuid,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await;
        let actor = testkit::program(&test, &tenant).await;
        Self { test, actor, node: Uuid::now_v7() }
    }

    async fn add(&self, previous: Option<ResponseId>, input: Value) -> ResponseId {
        let new = NewResponse {
            id: ResponseId(Uuid::now_v7()),
            account: account(&self.actor),
            previous,
            model: "m".into(),
            status: ResponseStatus::Queued,
            instructions: None,
            echo: json!({ "store": true }),
            input,
            metadata: json!({}),
            class: self.actor.class(),
            background: true,
            node: self.node,
            created_at: SystemClock.now(),
            expires_at: SystemClock.now() + 60_000,
        };
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        tx.responses().insert(&new).await.unwrap();
        tx.commit().await.unwrap();
        new.id
    }

    async fn finish(&self, id: ResponseId, status: ResponseStatus) -> bool {
        let stats = Some(AnswerStats { model: "other".into(), completion_tokens: 3, ..AnswerStats::default() });
        let cost = Some(Money { currency: "EUR".into(), pico: 7 });
        let end = Finished { status, output: json!(["said"]), stats, cost, problem: None, at: SystemClock.now() };
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        let finished = tx.response_runs().finish(id, &end).await.unwrap();
        tx.commit().await.unwrap();
        finished
    }

    async fn append(&self, id: ResponseId, node: Uuid, first: i32) -> domain::Result<Appended> {
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        let appended = tx.response_runs().append(id, node, first, json!([{ "n": first }, { "n": first + 1 }]), false).await?;
        tx.commit().await?;
        Ok(appended)
    }
}

fn account(actor: &Actor) -> ServiceAccountId {
    actor.as_program().unwrap().account
}

#[tokio::test]
async fn a_response_is_its_accounts_alone() {
    let house = House::build().await;
    let id = house.add(None, json!(["asked"])).await;
    let tenant = testkit::TestTenant { id: house.actor.tenant() };
    let colleague = account(&testkit::program(&house.test, &tenant).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let stored = tx.responses().get(account(&house.actor), id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.output, stored.background, stored.ended_at), (ResponseStatus::Queued, json!([]), true, None));
    assert_eq!(tx.responses().input(account(&house.actor), id).await.unwrap(), Some(json!(["asked"])));
    assert!(tx.responses().get(colleague, id).await.unwrap().is_none());
    assert!(tx.responses().input(colleague, id).await.unwrap().is_none());
    assert!(tx.responses().status(colleague, id).await.unwrap().is_none());
    assert!(tx.responses().outputs(colleague, &[id]).await.unwrap().is_empty());
    assert!(tx.responses().chain(colleague, id, WIDE).await.unwrap().is_empty());
    assert!(!tx.responses().request_cancel(colleague, id).await.unwrap());
    assert!(!tx.responses().delete(colleague, id).await.unwrap());
    assert!(tx.responses().delete(account(&house.actor), id).await.unwrap());
}

#[tokio::test]
async fn events_are_numbered_once_and_only_while_it_is_made_here() {
    let house = House::build().await;
    let id = house.add(None, json!([])).await;
    assert_eq!(house.append(id, house.node, 1).await.unwrap(), Appended::Stored);
    assert!(matches!(house.append(id, house.node, 2).await, Err(Error::Conflict { .. })), "number 2 is there");
    assert_eq!(house.append(id, Uuid::now_v7(), 3).await.unwrap(), Appended::Lost, "another node");
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    tx.response_runs().begin(id, house.node).await.unwrap();
    assert_eq!(tx.response_runs().heartbeat(id, house.node).await.unwrap(), Some(false));
    assert!(tx.responses().request_cancel(account(&house.actor), id).await.unwrap());
    assert_eq!(tx.response_runs().heartbeat(id, house.node).await.unwrap(), Some(true));
    tx.commit().await.unwrap();
    assert_eq!(house.append(id, house.node, 3).await.unwrap(), Appended::CancelRequested);
    assert!(house.finish(id, ResponseStatus::Cancelled).await);
    assert!(!house.finish(id, ResponseStatus::Completed).await, "it ends once");
    assert_eq!(house.append(id, house.node, 5).await.unwrap(), Appended::Lost);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let events = tx.response_runs().events(id, 1, 2).await.unwrap();
    assert_eq!(events, [(2, json!({ "n": 2 })), (3, json!({ "n": 3 }))]);
    let stored = tx.responses().get(account(&house.actor), id).await.unwrap().unwrap();
    assert_eq!(stored.model, "other", "who answered, and not who was asked");
    assert_eq!(stored.cost, Some(Money { currency: "EUR".into(), pico: 7 }));
    assert_eq!((stored.status, stored.output, stored.stats.unwrap().completion_tokens), (ResponseStatus::Cancelled, json!(["said"]), 3));
}

#[tokio::test]
async fn a_chain_is_read_from_its_beginning_and_within_limits() {
    let house = House::build().await;
    let mut last = None;
    let mut all = Vec::new();
    for n in 0..4 {
        let id = house.add(last, json!([n])).await;
        house.finish(id, ResponseStatus::Completed).await;
        last = Some(id);
        all.push(id);
    }
    let last = last.unwrap();
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let inputs = async |limits| {
        let links = tx.responses().chain(account(&house.actor), last, limits).await.unwrap();
        (links.iter().map(|link| link.input[0].as_i64().unwrap()).collect::<Vec<_>>(), links[0].previous.is_some())
    };
    assert_eq!(inputs(WIDE).await, (vec![0, 1, 2, 3], false));
    assert_eq!(inputs(ChainLimits { responses: 2, ..WIDE }).await, (vec![2, 3], true));
    let bytes = tx.responses().chain(account(&house.actor), last, WIDE).await.unwrap()[0].bytes;
    assert_eq!(bytes, 3 + 8, "[n] and [\"said\"]");
    assert_eq!(inputs(ChainLimits { bytes: bytes + 1, ..WIDE }).await, (vec![2, 3], true));
    assert!(tx.responses().delete(account(&house.actor), all[1]).await.unwrap());
    assert_eq!(inputs(WIDE).await, (vec![2, 3], true), "a hole is seen");
}

#[tokio::test]
async fn what_a_dead_node_left_is_found_and_taken_over_once() {
    let house = House::build().await;
    let id = house.add(None, json!([])).await;
    let dead = async || {
        let tx = house.test.db.begin_system("test", Reason::Sweep).await.unwrap();
        let dead = tx.responses().dead(15).await.unwrap();
        tx.commit().await.unwrap();
        dead
    };
    assert!(dead().await.is_empty());
    execute_as_owner(&house.test, "UPDATE response SET heartbeat_at = now() - interval '20 seconds'").await;
    assert_eq!(dead().await, [(house.actor.tenant(), id)]);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert_eq!(tx.response_runs().lock_dead(id, 15).await.unwrap(), Some(false));
    let other = house.test.db.begin(&house.actor).await.unwrap();
    assert_eq!(other.response_runs().lock_dead(id, 15).await.unwrap(), None, "somebody else has it");
    tx.response_runs().append_last(id, json!({ "n": 1 })).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn the_purge_takes_what_is_past_its_time() {
    let house = House::build().await;
    let (running, ended, expired) = (house.add(None, json!([])).await, house.add(None, json!([])).await, house.add(None, json!([])).await);
    for id in [running, ended, expired] {
        house.append(id, house.node, 1).await.unwrap();
    }
    house.finish(ended, ResponseStatus::Completed).await;
    execute_as_owner(&house.test, &format!("UPDATE response SET expires_at = now() - interval '1 second' WHERE id = '{expired}'")).await;
    let tx = house.test.db.begin_system("test", Reason::Purge).await.unwrap();
    assert_eq!(tx.responses().purge_events(SystemClock.now() + 1_000).await.unwrap(), 2);
    assert_eq!(tx.responses().purge(SystemClock.now()).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM response_event").await, 2, "those of the running one");
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM response").await, 2);
}

//! Two whole processes on one database, and SIGKILL for the one that holds slices of a budget: nothing is lost, and
//! nothing is spent twice.

use crate::{
    app::TestApp,
    world::{Running, eventually, free_port, install, serve, signal},
};
use contract::ids::TenantId;
use domain::{Clock, SystemClock, quota::Level};
use futures::future::join_all;
use serde_json::json;
use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};
use store::{Reason, ledger_counts::Drift};
use tempfile::TempDir;
use testkit::{
    TestDb,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::FAKE_MODEL,
    keys,
    ledger::execute_as_owner,
    quotas::{amount, budget, price, spent},
};
use time::OffsetDateTime;

/// What the budget has.
const BUDGET: &str = "0.05";
/// An answer's token costs 2 € for a million, in 10⁻¹² €.
const ANSWER_TOKEN: i64 = 2_000_000;
/// What is set aside for the prompt "x" at 1 € for a million: its byte, and what is around it.
const PROMPT: i64 = (1 + 16 + 64) * 1_000_000;
/// Tokens that the answers in this test may have, unless they are about the rest of the budget.
const SHORT: i64 = 10;
/// Answers that never come to an end.
const HANGING: usize = 4;
/// Requests at the same time, to each process.
const AT_ONCE: usize = 4;
/// Requests after which the process is killed, in the midst of more.
const KILLED_AFTER: usize = 40;
/// Requests of each of those who ask the process that stays.
const EACH: usize = 30;

/// A process of its own, with a server of its own behind it.
struct Node {
    process: Running,
    upstream: FakeUpstream,
    addr: SocketAddr,
    client: reqwest::Client,
    key: String,
    folder: Arc<TempDir>,
}

impl Node {
    async fn start(db: &TestDb, key: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a folder")), db, key).await
    }

    async fn start_in(folder: Arc<TempDir>, db: &TestDb, key: &str) -> Self {
        let (upstream, addr) = (FakeUpstream::start().await, free_port());
        install(db, &upstream, addr, folder.path());
        let process = serve(folder.path(), &[], Stdio::inherit());
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client");
        let node = Self { process, upstream, addr, client, key: key.into(), folder };
        eventually("the process is ready", 30, || async {
            let answer = node.client.get(format!("http://{addr}/readyz")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        node
    }

    /// Asks; the head of the answer.
    async fn ask(&self, max_tokens: i64, stream: bool) -> reqwest::Result<reqwest::Response> {
        let messages = json!([{ "role": "user", "content": "x" }]);
        let body = json!({ "model": FAKE_MODEL, "messages": messages, "max_tokens": max_tokens, "stream": stream });
        self.client.post(format!("http://{}/v1/chat/completions", self.addr)).bearer_auth(&self.key).json(&body).send().await
    }

    /// Asks and reads to the end; the status. `None`: the process is gone.
    async fn status(&self, max_tokens: i64) -> Option<u16> {
        let answer = self.ask(max_tokens, false).await.ok()?;
        let status = answer.status().as_u16();
        answer.bytes().await.ok().map(|_| status)
    }
}

/// What the budget and the ledger say, in 10⁻¹² €.
#[derive(Debug)]
struct Books {
    spent: i64,
    held: i64,
    /// By the ledger.
    charged: i64,
    /// Set aside for what runs, by the ledger.
    running: i64,
}

impl Books {
    async fn read(db: &TestDb, tenant: TenantId) -> Self {
        let sum = async |column: &str, state: &str| {
            let sql =
                format!("SELECT (coalesce(sum({column}), 0) * 1000000000000)::bigint AS value FROM usage_event WHERE state = '{state}'");
            db.count_as_owner(&sql).await
        };
        let states = spent(db, tenant).await;
        let [state] = states.as_slice() else { panic!("one budget: {states:?}") };
        Self {
            spent: state.spent.pico(),
            held: state.held.pico(),
            charged: sum("cost", "settled").await,
            running: sum("reserved_cost", "open").await,
        }
    }

    fn agree(&self) -> bool {
        (self.spent, self.held) == (self.charged, self.running)
    }
}

#[tokio::test]
async fn a_process_killed_while_it_holds_money_loses_nothing_and_spends_nothing_twice() {
    let app = TestApp::start().await;
    let (db, tenant) = (&app.db, app.tenant("ours").await);
    let key = keys::make(&app.state.identity, tenant).await.1.key.reveal().to_owned();
    price(db, FAKE_MODEL, "EUR", "1", "2").await;
    budget(db, tenant, Level::Tenant, None, BUDGET, true).await;
    let (doomed, survivor) = tokio::join!(Node::start(db, &key), Node::start(db, &key));

    // Some answers of it hang, others come and go, and in the midst of that it is killed. The other one goes on.
    doomed.upstream.set(Mood::FallsSilent);
    let hanging = join_all((0..HANGING).map(|_| doomed.ask(SHORT, true))).await;
    assert!(hanging.iter().all(|head| head.as_ref().is_ok_and(|head| head.status() == 200)), "{hanging:?}");
    doomed.upstream.set(Mood::Answers);
    let until_it_is_gone = || async {
        while let Some(status) = doomed.status(SHORT).await {
            assert_eq!(status, 200);
        }
    };
    let a_few = || async {
        for _ in 0..EACH {
            assert_eq!(survivor.status(SHORT).await, Some(200), "the other process is not concerned");
        }
    };
    let killed = async {
        eventually("it is at work", 30, || async { doomed.upstream.requests().len() >= HANGING + KILLED_AFTER }).await;
        signal(doomed.process.0.id(), "KILL");
    };
    tokio::join!(join_all((0..AT_ONCE).map(|_| until_it_is_gone())), join_all((0..AT_ONCE).map(|_| a_few())), killed);
    drop(hanging);

    // What it had not told the database yet lies on its disk, and is told by the process that is started there next.
    let heir = Node::start_in(doomed.folder.clone(), db, &key).await;
    // What the one that stays has done is settled, and it gives back what it does not need.
    let others = "SELECT count(DISTINCT node_id) AS value FROM usage_event WHERE state = 'open'";
    eventually("only the killed one has anything open", 10, || async { db.count_as_owner(others).await == 1 }).await;
    let computed = i64::try_from(doomed.upstream.requests().len() + survivor.upstream.requests().len()).expect("few");
    let recorded = "SELECT count(*) AS value FROM usage_event";
    eventually("all that was computed is in the ledger", 10, || async { db.count_as_owner(recorded).await >= computed }).await;
    let books = Books::read(db, tenant).await;
    assert!(books.running >= i64::try_from(HANGING).expect("few") * (PROMPT + SHORT * ANSWER_TOKEN), "{books:?}");
    assert!(books.held >= books.running, "it held nothing when it died, so this test shows nothing: {books:?}");

    // A minute later, which is long. The process that stays takes back what the other one held.
    let silent = "UPDATE budget_share SET seen_at = seen_at - interval '2 minutes' \
                  WHERE node_id IN (SELECT node_id FROM usage_event WHERE state = 'open')";
    execute_as_owner(db, silent).await;
    eventually("the budget is as the ledger says", 45, || async { Books::read(db, tenant).await.agree() }).await;

    // What seemed to run is settled by the sweeper, which knows no figures. Then nothing is set aside any more.
    let swept = app.state.inference.sweep(0).await.expect("swept");
    assert!(swept >= HANGING as u64, "{swept}");
    eventually("nothing is held", 45, || async {
        let books = Books::read(db, tenant).await;
        books.agree() && books.held == 0
    })
    .await;

    // What processes told that they settled, the killed one too, is in the ledger.
    let today = OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).expect("a time").date();
    eventually("the ledger has what was settled", 30, || async {
        let tx = db.db.begin_system("test", Reason::Sweep).await.expect("a transaction");
        let all = tx.ledger_counts().compare(today).await.expect("compared");
        all.iter().any(|one| one.counted.uses > 0) && Drift::of(&all).is_none()
    })
    .await;

    // The whole rest can be spent, and no more than that.
    let charged = async || Books::read(db, tenant).await.charged;
    let tokens = async || (amount(BUDGET).pico() - charged().await - PROMPT) / ANSWER_TOKEN;
    let before = charged().await;
    assert_eq!(survivor.status(tokens().await - 5).await, Some(200), "something of the budget got lost");
    eventually("it is settled", 10, || async { charged().await > before }).await;
    assert_eq!(survivor.status(tokens().await + 5).await, Some(429), "something of the budget can be spent twice");
    assert_eq!(heir.status(tokens().await + 5).await, Some(429), "something of the budget can be spent twice");
}

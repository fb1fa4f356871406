//! Budgets and limits: exact, whoever asks how much at the same time, and whichever process dies.

use crate::setup::{Setup, eventually, first_text, read, request, setup};
use contract::model::Sampling;
use domain::{Actor, Amount, Error, Quota, SystemClock, quota::Level};
use futures::future::join_all;
use inference::{Catalogue, Generation, Inference, ModelConfig, Request};
use std::{sync::Arc, time::Duration};
use store::budgets::BudgetState;
use testkit::{
    TestDb,
    fake_worker::{FAKE_MODEL, FakeWorker, Script, fake_model, inference, quick_pool},
    quotas::{amount, budget, limit, price, spent},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// 20 prompt tokens, 10 of them cached, and 5 of an answer, at 1 €, 0.10 € and 2 € for a million.
pub const COST: &str = "0.000021";

pub fn answer() -> Script {
    Script::answer("a house of trade indeed").prompt(20, 10)
}

/// Up to ten tokens of an answer.
pub fn short() -> Request {
    Request { sampling: Sampling { max_tokens: Some(10), ..Sampling::default() }, ..request() }
}

/// What [`short`] reserves: its 18 bytes with what is around them, and ten tokens.
pub fn reserved() -> Amount {
    let bytes = short().messages[0].content.len() as u64 + 16 + 64;
    amount("0.000001").times(bytes) + amount("0.000002").times(10)
}

pub async fn world() -> Setup {
    let s = setup().await;
    s.worker.otherwise(answer());
    price(&s.db, FAKE_MODEL, "EUR", "1", "2").await;
    s
}

pub async fn only(db: &TestDb, actor: &Actor) -> BudgetState {
    let mut states = spent(db, actor.tenant()).await;
    assert_eq!(states.len(), 1, "{states:?}");
    states.remove(0)
}

pub async fn sum_of_the_ledger(db: &TestDb) -> i64 {
    db.count_as_owner("SELECT (coalesce(sum(cost), 0) * 1000000000000)::bigint AS value FROM usage_event").await
}

pub fn pico(amount: Amount) -> i64 {
    (amount.decimal() * rust_decimal::Decimal::from(1_000_000_000_000_i64)).try_into().expect("a whole number")
}

#[track_caller]
pub fn refused_by(outcome: Result<Generation, Error>) -> Quota {
    match outcome {
        Err(Error::QuotaExceeded { quota, .. }) => quota,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_use_costs_what_its_tokens_cost_in_the_ledger_and_in_every_budget() {
    let s = world().await;
    let tenant = s.actor.tenant();
    for (level, hard) in [(Level::Tenant, true), (Level::User, true), (Level::User, false)] {
        budget(&s.db, tenant, level, None, "1", hard).await;
    }
    // Somebody else's, and one that has no such payer.
    budget(&s.db, tenant, Level::User, Some("somebody else"), "0", true).await;
    budget(&s.db, tenant, Level::Team, None, "0", true).await;
    let mut generation = s.inference.admit(&s.actor, short()).await.expect("admitted");
    read(&mut generation).await;
    let cost = generation.route().and_then(|route| route.cost).map(|(currency, cost)| (currency.code().to_owned(), cost));
    assert_eq!(cost, Some(("EUR".into(), amount(COST))));
    s.inference.drain().await;
    assert_eq!(sum_of_the_ledger(&s.db).await, pico(amount(COST)));
    let states = spent(&s.db, tenant).await;
    assert_eq!(states.len(), 3, "{states:?}");
    assert!(states.iter().all(|state| state.spent == amount(COST) && state.held == Amount::ZERO), "{states:?}");
}

#[tokio::test]
async fn of_64_at_once_a_budget_for_one_lets_exactly_one_run() {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, &reserved().to_string(), true).await;
    s.worker.otherwise(answer().hangs_after(1));
    let asked = join_all((0..64).map(|_| s.inference.admit(&s.actor, short()))).await;
    let (admitted, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    assert_eq!(admitted.len(), 1, "If you are here because this failed: a budget can be overdrawn by asking in parallel.");
    assert!(refused.into_iter().all(|outcome| refused_by(outcome) == Quota::Budget));
    // One token of the answer, then it is cancelled: what is left is not enough for another.
    let mut generation = admitted.into_iter().next().expect("one").expect("admitted");
    first_text(&mut generation).await;
    generation.cancel();
    read(&mut generation).await;
    assert_eq!(refused_by(s.inference.admit(&s.actor, short()).await), Quota::Budget);
    assert_eq!(s.db.count_as_owner("SELECT count(*) AS value FROM usage_event").await, 1, "what is refused is not in the ledger");
    s.inference.drain().await;
    let state = only(&s.db, &s.actor).await;
    assert_eq!((pico(state.spent), state.held), (sum_of_the_ledger(&s.db).await, Amount::ZERO));
}

#[tokio::test]
async fn an_answer_without_a_bound_is_as_long_as_the_budget_allows() {
    let s = world().await;
    // Not enough for the whole context, enough for a few hundred tokens.
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, &(reserved() + amount("0.001")).to_string(), true).await;
    let mut generation = s.inference.admit(&s.actor, request()).await.expect("a shorter answer instead of none");
    read(&mut generation).await;
    let bound = s.worker.requests()[0].sampling.max_tokens.expect("a bound");
    assert!((64..=500).contains(&bound), "{bound}");
    // Whoever says how long the answer may be gets that or nothing.
    let long = Request { sampling: Sampling { max_tokens: Some(4096), ..Sampling::default() }, ..request() };
    assert_eq!(refused_by(s.inference.admit(&s.actor, long).await), Quota::Budget);
}

#[tokio::test]
async fn four_nodes_spend_a_budget_to_its_last_use_and_not_beyond() {
    let s = world().await;
    // Room for 100 reservations; 300 are asked for by four nodes at the same time, three of which each end before the next.
    let whole = reserved().times(100);
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, &whole.to_string(), true).await;
    let nodes: Vec<Inference> = (0..4).map(|_| inference(&s.db, &s.worker)).collect();
    let run = |node: Inference| async {
        let node = node;
        let mut ran = 0_u64;
        for _ in 0..1000 {
            match node.admit(&s.actor, short()).await {
                Ok(mut generation) => {
                    read(&mut generation).await;
                    ran += 1;
                }
                Err(Error::QuotaExceeded { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        ran
    };
    let ran: u64 = join_all(nodes.iter().cloned().map(run)).await.into_iter().sum();
    for node in &nodes {
        node.drain().await;
    }
    let state = only(&s.db, &s.actor).await;
    assert_eq!(pico(state.spent), pico(amount(COST)) * i64::try_from(ran).expect("few"));
    assert_eq!((pico(state.spent), state.held), (sum_of_the_ledger(&s.db).await, Amount::ZERO));
    assert!(state.spent <= whole, "overdrawn: {state:?}");
    // What was refused early was at most what the other three held: one reservation and a slice each.
    assert!(whole - state.spent <= reserved().times(8), "{} of {whole} spent", state.spent);
}

#[tokio::test]
async fn a_killed_node_loses_nothing_and_spends_nothing_twice() {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "1", true).await;
    // It settles two uses, is in the middle of a third, and is never heard of again: nothing was told.
    for _ in 0..2 {
        read(&mut s.inference.admit(&s.actor, short()).await.expect("admitted")).await;
    }
    s.worker.script(answer().hangs_after(1));
    let mut running = s.inference.admit(&s.actor, short()).await.expect("admitted");
    first_text(&mut running).await;
    let before = only(&s.db, &s.actor).await;
    assert_eq!(before.spent, Amount::ZERO);
    assert!(before.held > reserved(), "{before:?}");

    let other = inference(&s.db, &s.worker);
    assert_eq!(other.recover_quotas(Duration::from_secs(60)).await.expect("recovered"), 0, "it was seen a moment ago");
    assert_eq!(other.recover_quotas(Duration::ZERO).await.expect("recovered"), 1);
    let recovered = only(&s.db, &s.actor).await;
    assert_eq!((recovered.spent, recovered.held), (amount(COST).times(2), reserved()), "what the ledger has as running stays set aside");

    // It was only slow: what it tells afterwards is not counted twice, and what it used since is counted once.
    running.cancel();
    read(&mut running).await;
    read(&mut s.inference.admit(&s.actor, short()).await.expect("admitted")).await;
    s.inference.drain().await;
    let after = only(&s.db, &s.actor).await;
    assert_eq!(pico(after.spent), sum_of_the_ledger(&s.db).await);
    assert_eq!(after.held, Amount::ZERO);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_goes_on_without_losing_money() {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "1", true).await;
    read(&mut s.inference.admit(&s.actor, short()).await.expect("admitted")).await;
    assert_eq!(s.inference.recover_quotas(Duration::ZERO).await.expect("recovered"), 1);
    let (node, stop) = (s.inference.clone(), CancellationToken::new());
    let stopping = stop.clone();
    let tending = JoinSet::from_iter([async move { node.tend_quotas(stopping).await }]);
    for _ in 0..4 {
        read(&mut s.inference.admit(&s.actor, short()).await.expect("admitted")).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    eventually("all is told and given back", || async {
        let state = only(&s.db, &s.actor).await;
        (state.spent, state.held) == (amount(COST).times(5), Amount::ZERO)
    })
    .await;
    stop.cancel();
    tending.join_all().await;
}

#[tokio::test]
async fn requests_of_all_sizes_at_once_never_overdraw_a_budget() {
    let s = world().await;
    let whole = reserved().times(20);
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, &whole.to_string(), true).await;
    s.worker.otherwise(answer().hangs_after(1));
    let sized = |number: u32| {
        let sampling = Sampling { max_tokens: Some(1 + number % 7 * 20), ..Sampling::default() };
        s.inference.admit(&s.actor, Request { sampling, ..request() })
    };
    let running: Vec<_> = join_all((0..100).map(sized)).await.into_iter().filter_map(Result::ok).collect();
    assert!(!running.is_empty());
    let open = "SELECT (sum(reserved_cost) * 1000000000000)::bigint AS value FROM usage_event WHERE state = 'open'";
    assert!(
        s.db.count_as_owner(open).await <= pico(whole),
        "If you are here because this failed: what runs at the same time is worth more than the budget has."
    );
}

#[tokio::test]
async fn a_soft_budget_warns_once_for_each_step_and_refuses_nothing() {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, &amount(COST).times(10).to_string(), false).await;
    let warnings = || s.db.count_as_owner("SELECT count(*) AS value FROM audit_event WHERE action = 'budget.warning'");
    let mut counted = 0;
    for uses in 1..=12 {
        let node = inference(&s.db, &s.worker);
        read(&mut node.admit(&s.actor, short()).await.expect("a soft budget refuses nothing")).await;
        node.drain().await;
        let expected = match uses {
            ..8 => 0,
            8 => 1,
            9 => 2,
            _ => 3,
        };
        assert_eq!(warnings().await, expected, "after {uses} uses of 10");
        let mut figures = String::new();
        node.metrics().encode(&mut figures).expect("text");
        counted += figures.lines().filter(|line| line.starts_with("kontor_budget_warnings_total{") && line.ends_with(" 1")).count();
    }
    assert_eq!(counted, 3, "If you are here because this failed: no alert tells that a budget is nearly spent.");
    assert_eq!(only(&s.db, &s.actor).await.spent, amount(COST).times(12));
}

#[tokio::test]
async fn a_hard_budget_refuses_what_is_paid_in_another_currency_and_only_that() {
    let s = setup().await;
    price(&s.db, FAKE_MODEL, "USD", "1", "2").await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "1000", true).await;
    let catalogue = Catalogue::new(vec![fake_model(), ModelConfig { id: "free".into(), default: false, ..fake_model() }]).expect("valid");
    let pool = quick_pool();
    pool.add("fake worker", s.worker.backend());
    let free = FakeWorker::with_model("free").await;
    pool.add("another", free.backend());
    let inference = Inference::new(s.db.db.clone(), catalogue, pool, Arc::new(SystemClock));
    let error = inference.admit(&s.actor, short()).await.expect_err("no dollars");
    assert!(matches!(&error, Error::QuotaExceeded { quota: Quota::Budget, which, .. } if which.contains("EUR")), "{error}");
    let other = Request { model: Some("free".into()), ..short() };
    read(&mut inference.admit(&s.actor, other).await.expect("a model without a price is free")).await;
}

#[tokio::test]
async fn a_failure_that_brought_nothing_costs_nothing() {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "1", true).await;
    s.worker.script(Script::refuses(worker_protocol::FailCode::ContextLengthExceeded));
    read(&mut s.inference.admit(&s.actor, short()).await.expect("admitted")).await;
    s.inference.drain().await;
    assert_eq!(sum_of_the_ledger(&s.db).await, 0);
    let state = only(&s.db, &s.actor).await;
    assert_eq!((state.spent, state.held), (Amount::ZERO, Amount::ZERO));
}

#[tokio::test]
async fn four_nodes_accept_a_hundred_of_a_limit_of_a_hundred_a_minute() {
    let s = world().await;
    limit(&s.db, s.actor.tenant(), Level::User, |limit| limit.requests = Some(100)).await;
    let nodes: Vec<Inference> = (0..4).map(|_| inference(&s.db, &s.worker)).collect();
    let ask = |number: usize| {
        let node = nodes[number % 4].clone();
        let actor = s.actor.clone();
        async move { node.admit(&actor, short()).await }
    };
    let asked = join_all((0..200).map(ask)).await;
    let accepted = asked.iter().filter(|outcome| outcome.is_ok()).count();
    assert!((98..=102).contains(&accepted), "If you are here because this failed: {accepted} were accepted of 100 a minute.");
    let after = match asked.into_iter().find_map(Result::err) {
        Some(Error::QuotaExceeded { quota: Quota::Requests(100), retry_after_ms: Some(after), .. }) => after,
        other => panic!("{other:?}"),
    };
    assert!((50_000..=60_000).contains(&after), "the minute began with the first request: {after} ms");
}

#[tokio::test]
async fn a_limit_says_how_it_stands() {
    let s = world().await;
    limit(&s.db, s.actor.tenant(), Level::Tenant, |limit| limit.requests = Some(10)).await;
    limit(&s.db, s.actor.tenant(), Level::User, |limit| (limit.requests, limit.tokens) = (Some(5), Some(1_000))).await;
    let mut generation = s.inference.admit(&s.actor, short()).await.expect("admitted");
    read(&mut generation).await;
    let limits = generation.route().expect("a route").limits;
    let requests = limits.requests.expect("a limit of requests");
    assert_eq!((requests.limit, requests.remaining), (5, 4), "the tightest");
    // 98 bytes are some 24 tokens; ten of an answer.
    let tokens = limits.tokens.expect("a limit of tokens");
    assert_eq!((tokens.limit, tokens.remaining), (1_000, 1_000 - 34));
    assert!(tokens.reset > Duration::from_secs(50));
}

#[tokio::test]
async fn tokens_are_counted_by_estimate_and_then_as_they_were() {
    let s = world().await;
    limit(&s.db, s.actor.tenant(), Level::User, |limit| limit.tokens = Some(100)).await;
    // 34 estimated, 25 used: two leave 50, the third's estimate fits, and the fourth's does not.
    for _ in 0..3 {
        read(&mut s.inference.admit(&s.actor, short()).await.expect("it fits")).await;
    }
    let outcome = s.inference.admit(&s.actor, short()).await;
    assert_eq!(refused_by(outcome), Quota::Tokens(100));
}

#[tokio::test]
async fn places_are_free_again_when_what_runs_has_ended() {
    let s = world().await;
    limit(&s.db, s.actor.tenant(), Level::User, |limit| limit.places = Some(2)).await;
    s.worker.otherwise(answer().hangs_after(1));
    let other = inference(&s.db, &s.worker);
    let mut first = s.inference.admit(&s.actor, short()).await.expect("a place");
    let second = other.admit(&s.actor, short()).await.expect("a place on another node");
    assert_eq!(refused_by(other.admit(&s.actor, short()).await), Quota::Places(2));
    assert_eq!(refused_by(s.inference.admit(&s.actor, short()).await), Quota::Places(2));
    first_text(&mut first).await;
    first.cancel();
    read(&mut first).await;
    let third = s.inference.admit(&s.actor, short()).await.expect("the place is free");
    drop((second, third));
    s.inference.drain().await;
    other.drain().await;
    assert_eq!(s.db.count_as_owner("SELECT coalesce(sum(held), 0)::bigint AS value FROM limit_place").await, 0);
}

#[tokio::test]
async fn an_idle_node_gives_back_what_it_holds() {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "1", true).await;
    limit(&s.db, s.actor.tenant(), Level::Tenant, |limit| limit.places = Some(1)).await;
    let stop = CancellationToken::new();
    let (node, stopping) = (s.inference.clone(), stop.clone());
    let tending = JoinSet::from_iter([async move { node.tend_quotas(stopping).await }]);
    read(&mut s.inference.admit(&s.actor, short()).await.expect("admitted")).await;
    let other = inference(&s.db, &s.worker);
    eventually("its place is free for another node", || async { other.admit(&s.actor, short()).await.is_ok() }).await;
    eventually("nothing is held but by the other", || async { only(&s.db, &s.actor).await.spent >= amount(COST) }).await;
    stop.cancel();
    tending.join_all().await;
}

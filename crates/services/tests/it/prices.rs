//! What a model costs changes at an instant, and what was used has its price.

use crate::world::{World, until};
use contract::{Millis, model::Sampling, usage::Purpose};
use domain::{Amount, Clock, Error, money::PriceList};
use inference::{Catalogue, ChatMessage, ChatRole, Generation, Inference, Options, Request};
use services::{Quotas, Services};
use std::{sync::Arc, time::Duration};
use testkit::{
    TestClock,
    fake_worker::{FAKE_MODEL, Script, fake_model, quick_pool},
    generation::read,
    quotas::{amount, decimal},
};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: Millis = 3_600_000;
/// 20 prompt tokens, 10 of them cached, and 5 of an answer, at 1 €, 0.10 € and 2 € for a million.
const COST: &str = "0.000021";

/// The product, with a clock that the test turns.
struct Turned {
    world: World,
    clock: Arc<TestClock>,
    inference: Inference,
    quotas: Quotas,
}

impl Turned {
    async fn new() -> Self {
        let world = World::new().await;
        // Not over before the clock is turned.
        world.worker.otherwise(Script::answer("a house of trade indeed").prompt(20, 10).delay(Duration::from_millis(50)));
        let (pool, clock) = (quick_pool(), Arc::new(TestClock::default()));
        pool.add("fake worker", world.worker.backend());
        let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
        let inference = Inference::new(world.db.db.clone(), catalogue, pool.clone(), clock.clone());
        let quotas = Services::new(world.db.db.clone(), inference.clone(), world.identity.clone(), clock.clone()).quotas;
        until("the worker is ready", || async { pool.is_ready(FAKE_MODEL) }).await;
        Self { world, clock, inference, quotas }
    }

    /// What a million tokens of a prompt cost, a tenth of that where they are cached, and double that in an answer.
    async fn set(&self, input: &str, from: Option<Millis>) -> Result<Millis, Error> {
        let input = decimal(input);
        let list = PriceList { input, cached_input: input / decimal("10"), output: input * decimal("2"), per_request: decimal("0") };
        self.quotas.set_price("test", FAKE_MODEL, "EUR", list, from).await.map(|price| price.valid_from)
    }

    async fn begin(&self) -> Generation {
        let request = Request {
            purpose: Purpose::Chat,
            model: None,
            messages: vec![ChatMessage::new(ChatRole::User, "What is a kontor?")],
            continue_last: false,
            sampling: Sampling { max_tokens: Some(10), ..Sampling::default() },
            transient: false,
            options: Options::default(),
        };
        self.inference.admit(&self.world.actor, request).await.expect("admitted")
    }
}

/// What it came to; `None`: it has no price.
async fn cost(mut generation: Generation) -> Option<Amount> {
    assert_eq!(read(&mut generation).await.0, "a house of trade indeed");
    generation.route().expect("somebody answered").cost.map(|(_, cost)| cost)
}

#[tokio::test]
async fn a_use_costs_what_is_valid_when_it_begins() {
    let turned = Turned::new().await;
    let now = turned.clock.now();
    // The later one is known first: it is no matter of the order in which they were set.
    assert_eq!(turned.set("2", Some(now + 2 * HOUR_MS)).await.expect("a price"), now + 2 * HOUR_MS);
    assert_eq!(turned.set("1", Some(now + HOUR_MS)).await.expect("a price"), now + HOUR_MS);

    assert_eq!(cost(turned.begin().await).await, None, "what has a price from tomorrow on is free today");
    turned.clock.advance(HOUR);
    assert_eq!(cost(turned.begin().await).await, Some(amount(COST)), "the first millisecond is within");
    turned.clock.advance(HOUR - Duration::from_millis(1));
    let across = turned.begin().await;
    turned.clock.advance(Duration::from_millis(1));
    let after = turned.begin().await;
    assert_eq!(cost(across).await, Some(amount(COST)), "If you are here because this failed: a price changes while an answer is made.");
    assert_eq!(
        cost(after).await,
        Some(amount(COST).times(2)),
        "If you are here because this failed: a price that was announced does not begin."
    );

    turned.inference.drain().await;
    let charged = "SELECT (sum(cost) * 1000000000000)::bigint AS value FROM usage_event";
    assert_eq!(turned.world.db.count_as_owner(charged).await, amount(COST).times(4).pico());
}

#[tokio::test]
async fn a_price_cannot_begin_in_the_past_nor_twice_at_the_same_instant() {
    let turned = Turned::new().await;
    let now = turned.clock.now();
    let past = turned.set("1", Some(now - 1)).await;
    assert!(
        matches!(past, Err(Error::Invalid { field: Some("from"), code: "in_the_past", .. })),
        "{past:?}. If you are here because this failed: what was used can be given another price afterwards."
    );
    assert!(turned.quotas.prices().await.expect("read").is_empty(), "nothing of it was kept");
    assert_eq!(turned.set("1", None).await.expect("a price"), now, "it begins now if nothing else is said");
    turned.clock.advance(HOUR);
    assert_eq!(turned.set("3", Some(now + HOUR_MS)).await.expect("a price"), now + HOUR_MS, "this very moment is not past");
    let again = turned.set("4", Some(now + HOUR_MS)).await;
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    let past = turned.set("4", Some(now)).await;
    assert!(matches!(past, Err(Error::Invalid { code: "in_the_past", .. })), "{past:?}");
    let kept: Vec<_> = turned.quotas.prices().await.expect("read").into_iter().map(|price| (price.list.input, price.valid_from)).collect();
    assert_eq!(kept, [(decimal("1"), now), (decimal("3"), now + HOUR_MS)]);
}

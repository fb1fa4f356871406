//! Budgets that begin anew, through the funnel.

use crate::{
    money::{COST, answer, refused_by, reserved, short, world},
    setup::{eventually, read},
};
use domain::{Amount, Clock, Quota, quota::Period};
use inference::{Catalogue, Inference};
use std::{sync::Arc, time::Duration};
use store::budgets::BudgetState;
use testkit::{
    TestClock,
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    quotas::{amount, periodic_budget, spent_at},
};

#[tokio::test]
async fn a_month_s_budget_begins_anew_with_the_next_month_and_pays_for_what_began_before_it() {
    let s = world().await;
    // It is still at work when the month ends.
    s.worker.otherwise(answer().delay(Duration::from_millis(50)));
    let (pool, clock) = (quick_pool(), Arc::new(TestClock::default()));
    pool.add("fake worker", s.worker.backend());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool.clone(), clock.clone());
    eventually("the worker is ready", || async { pool.is_ready(FAKE_MODEL) }).await;
    let tenant = s.actor.tenant();
    // Enough for one use, and for setting another one aside beside it.
    periodic_budget(&s.db, tenant, Period::Month, &(reserved() + amount(COST)).to_string()).await;
    let next_month = Period::Month.window(1, clock.now()).expect("a month").ends_at.expect("an end");
    let last_moment = next_month - 1;
    clock.advance(Duration::from_millis(u64::try_from(last_moment - clock.now()).expect("the month is not over")));

    read(&mut inference.admit(&s.actor, short()).await.expect("the month's first")).await;
    let mut running = inference.admit(&s.actor, short()).await.expect("the month's last");
    assert_eq!(refused_by(inference.admit(&s.actor, short()).await), Quota::Budget);
    clock.advance(Duration::from_millis(1));
    let anew = inference.admit(&s.actor, short()).await;
    let mut anew = anew.expect("If you are here because this failed: a budget that was used up once stays used up.");
    assert_eq!(read(&mut running).await.0, "a house of trade indeed");
    read(&mut anew).await;

    inference.drain().await;
    let only = |states: Vec<BudgetState>| match states.as_slice() {
        [state] => (state.spent, state.held),
        other => panic!("one period: {other:?}"),
    };
    let (before, after) = (spent_at(&s.db, tenant, last_moment).await, spent_at(&s.db, tenant, next_month).await);
    assert_eq!(only(before), (amount(COST).times(2), Amount::ZERO), "the month that a use began in pays for it");
    assert_eq!(only(after), (amount(COST), Amount::ZERO));
}

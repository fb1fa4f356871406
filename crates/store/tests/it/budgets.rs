//! Budgets in the database: a hard one is never promised twice.

use contract::ids::NodeId;
use domain::{
    Amount,
    quota::{Level, Window},
};
use std::time::Duration;
use store::budgets::{Budget, BudgetPeriod};
use testkit::{
    TestDb,
    quotas::{amount, budget, spent},
};
use uuid::Uuid;

fn period(budget: &Budget) -> BudgetPeriod {
    let window = Window { starts_at: 0, ends_at: None };
    BudgetPeriod { tenant: budget.tenant, budget: budget.id, subject: budget.tenant.to_string(), window }
}

fn node() -> NodeId {
    NodeId(Uuid::now_v7())
}

#[tokio::test]
async fn slices_never_exceed_a_hard_budget_and_shrink_with_it() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await.id;
    let budget = budget(&test, tenant, Level::Tenant, None, "64", true).await;
    let (of, node) = (period(&budget), node());
    let first = test.db.take_of_budget(&of, &budget, node, amount("0.5")).await.unwrap();
    assert_eq!((first.granted, first.free), (amount("1"), amount("64")));
    let large = test.db.take_of_budget(&of, &budget, node, amount("60")).await.unwrap();
    assert_eq!(large.granted, amount("60"), "what is needed, if it is more than a slice");
    let refused = test.db.take_of_budget(&of, &budget, node, amount("3.000000000001")).await.unwrap();
    assert_eq!((refused.granted, refused.free), (Amount::ZERO, amount("3")));
    assert_eq!(test.db.take_of_budget(&of, &budget, node, amount("3")).await.unwrap().granted, amount("3"));
    let state = &spent(&test, tenant).await[0];
    assert_eq!((state.spent, state.held), (Amount::ZERO, amount("64")));
}

#[tokio::test]
async fn what_is_told_is_spent_and_the_rest_comes_back() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await.id;
    let budget = budget(&test, tenant, Level::Tenant, None, "10", true).await;
    let (of, node) = (period(&budget), node());
    assert_eq!(test.db.tell_budget(&of, node, amount("1"), Amount::ZERO).await.unwrap(), None, "who holds nothing tells nothing");
    test.db.take_of_budget(&of, &budget, node, amount("4")).await.unwrap();
    let told = test.db.tell_budget(&of, node, amount("1"), amount("2")).await.unwrap().unwrap();
    assert_eq!((told.spent, told.lost), (amount("1"), false));
    let state = &spent(&test, tenant).await[0];
    assert_eq!((state.spent, state.held), (amount("1"), amount("1")));
}

#[tokio::test]
async fn a_soft_budget_grants_beyond_its_end() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await.id;
    let budget = budget(&test, tenant, Level::Tenant, None, "1", false).await;
    let slice = test.db.take_of_budget(&period(&budget), &budget, node(), amount("5")).await.unwrap();
    assert_eq!(slice.granted, amount("5"));
}

#[tokio::test]
async fn who_is_taken_for_dead_is_counted_from_the_ledger_and_not_believed() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await.id;
    let budget = budget(&test, tenant, Level::Tenant, None, "10", true).await;
    let (of, node) = (period(&budget), node());
    test.db.take_of_budget(&of, &budget, node, amount("4")).await.unwrap();
    assert_eq!(test.db.recover_budgets(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(test.db.recover_budgets(Duration::ZERO).await.unwrap(), 1);
    let state = &spent(&test, tenant).await[0];
    assert_eq!((state.spent, state.held), (Amount::ZERO, Amount::ZERO));
    let told = test.db.tell_budget(&of, node, amount("3"), Amount::ZERO).await.unwrap().unwrap();
    assert_eq!((told.spent, told.lost), (Amount::ZERO, true), "the ledger knows of nothing");
}

#[tokio::test]
async fn a_warning_is_given_once_for_each_step() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await.id;
    let budget = budget(&test, tenant, Level::Tenant, None, "10", true).await;
    let of = period(&budget);
    test.db.take_of_budget(&of, &budget, node(), amount("1")).await.unwrap();
    assert!(test.db.warn_of_budget(&of, 80).await.unwrap());
    assert!(!test.db.warn_of_budget(&of, 80).await.unwrap());
    assert!(test.db.warn_of_budget(&of, 100).await.unwrap());
    assert!(!test.db.warn_of_budget(&of, 90).await.unwrap());
}

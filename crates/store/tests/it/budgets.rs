//! Budgets in the database: a hard one is never promised twice.

use contract::ids::NodeId;
use domain::{
    Amount,
    quota::{Level, Window},
};
use std::time::Duration;
use store::budgets::{Budget, BudgetPeriod, Share, Told};
use testkit::{
    TestDb,
    quotas::{amount, budget, spent},
};
use uuid::Uuid;

struct House {
    test: TestDb,
    budget: Budget,
    of: BudgetPeriod,
}

/// What a process says of itself: spent, held.
fn share(spent: &str, held: &str) -> Share {
    Share { spent: amount(spent), held: amount(held) }
}

fn node() -> NodeId {
    NodeId(Uuid::now_v7())
}

impl House {
    async fn build(money: &str, hard: bool) -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await.id;
        let budget = budget(&test, tenant, Level::Tenant, None, money, hard).await;
        let window = Window { starts_at: 0, ends_at: None };
        let of = BudgetPeriod { tenant, budget: budget.id, subject: tenant.to_string(), window };
        Self { test, budget, of }
    }

    async fn tell(&self, node: NodeId, share: Share, need: &str) -> Told {
        self.test.db.tell_budget(&self.of, &self.budget, node, share, amount(need)).await.unwrap()
    }

    async fn recover(&self, silent: Duration) -> u64 {
        self.test.db.recover_budgets(silent).await.unwrap()
    }

    #[track_caller]
    fn is(&self, spent_and_held: (&str, &str), found: &[store::budgets::BudgetState]) {
        let (spent, held) = spent_and_held;
        assert_eq!((found[0].spent, found[0].held), (amount(spent), amount(held)));
    }

    async fn state(&self) -> Vec<store::budgets::BudgetState> {
        spent(&self.test, self.of.tenant).await
    }
}

#[tokio::test]
async fn slices_never_exceed_a_hard_budget_and_shrink_with_it() {
    let house = House::build("64", true).await;
    let (one, other) = (node(), node());
    assert_eq!(house.tell(one, share("0", "0"), "0.5").await.granted, amount("1"));
    assert_eq!(house.tell(other, share("0", "0"), "60").await.granted, amount("60"), "what is needed, if it is more than a slice");
    assert_eq!(house.tell(one, share("0", "1"), "3.000000000001").await.granted, Amount::ZERO);
    assert_eq!(house.tell(one, share("0", "1"), "3").await.granted, amount("3"));
    house.is(("0", "64"), &house.state().await);
}

#[tokio::test]
async fn telling_twice_does_no_harm() {
    let house = House::build("10", true).await;
    let one = node();
    house.tell(one, share("0", "0"), "4").await;
    for _ in 0..2 {
        let told = house.tell(one, share("1", "2"), "0").await;
        assert_eq!((told.spent, told.lost), (amount("1"), false));
        house.is(("1", "2"), &house.state().await);
    }
    // The answer to this got lost on the way: the process does not know that it holds more, and tells so.
    house.tell(one, share("1", "2"), "5").await;
    house.tell(one, share("1", "2"), "0").await;
    house.is(("1", "2"), &house.state().await);
}

#[tokio::test]
async fn a_soft_budget_grants_beyond_its_end() {
    let house = House::build("1", false).await;
    assert_eq!(house.tell(node(), share("0", "0"), "5").await.granted, amount("5"));
    assert_eq!(house.tell(node(), share("7", "0"), "5").await.granted, amount("5"));
}

#[tokio::test]
async fn whoever_is_refused_is_seen() {
    let house = House::build("4", true).await;
    let one = node();
    house.tell(one, share("0", "0"), "4").await;
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    assert_eq!(house.tell(one, share("0", "4"), "1").await.granted, Amount::ZERO);
    assert_eq!(
        house.recover(Duration::from_secs(3)).await,
        0,
        "If you are here because this failed: refusals make a process seem dead, and what it runs is given to others."
    );
}

#[tokio::test]
async fn who_is_taken_for_dead_is_counted_from_the_ledger_and_told_once() {
    let house = House::build("10", true).await;
    let one = node();
    house.tell(one, share("0", "0"), "4").await;
    assert_eq!(house.recover(Duration::from_secs(60)).await, 0);
    assert_eq!(house.recover(Duration::ZERO).await, 1);
    house.is(("0", "0"), &house.state().await);
    let told = house.tell(one, share("3", "1"), "2").await;
    assert_eq!((told.spent, told.granted, told.lost), (amount("3"), Amount::ZERO, true), "its journal may know what the ledger does not");
    // From now on it holds what it says.
    let told = house.tell(one, share("3", "0"), "2").await;
    assert_eq!((told.spent, told.granted, told.lost), (amount("3"), amount("2"), false));
    house.is(("3", "2"), &house.state().await);
    house.tell(one, share("3", "0"), "0").await;
    house.is(("3", "0"), &house.state().await);
}

#[tokio::test]
async fn a_warning_is_given_once_for_each_step() {
    let house = House::build("10", true).await;
    house.tell(node(), share("0", "0"), "1").await;
    let warn = |percent| house.test.db.warn_of_budget(&house.of, percent);
    assert!(warn(80).await.unwrap());
    assert!(!warn(80).await.unwrap());
    assert!(warn(100).await.unwrap());
    assert!(!warn(90).await.unwrap());
}

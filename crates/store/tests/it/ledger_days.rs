//! The days of the ledger: a partition each, sums that say the same, an end that loses nothing.

use crate::ledger::{open, settle, settlement, usage};
use contract::{Millis, account::Role, usage::UsageRow};
use domain::{Actor, Amount, Clock, SystemClock};
use store::{
    Reason, SystemTx,
    administration::LedgerSums,
    usage::{Charge, NewUsage, Outcome},
};
use testkit::{TestDb, ledger::execute_as_owner};
use time::{Date, OffsetDateTime, macros::date};

/// 2020-03-01T12:00:00Z
const NOON: Millis = 1_583_064_000_000;
const DAY_MS: Millis = 24 * 60 * 60 * 1000;
const FIRST: Date = date!(2020 - 02 - 29);
const LAST: Date = date!(2020 - 03 - 02);

/// Two people who used something on three days of long ago.
struct House {
    test: TestDb,
    anna: Actor,
    kim: Actor,
}

/// All that anybody is told.
#[derive(Debug, PartialEq)]
struct Figures {
    reports: Vec<Vec<UsageRow>>,
    as_of: Option<Millis>,
    charges: Vec<Charge>,
    sums: LedgerSums,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await;
        let anna = testkit::user(&test, &tenant, &[Role::User]).await;
        let kim = testkit::user(&test, &tenant, &[Role::User]).await;
        let house = Self { test, anna, kim };
        for (n, created_at) in [NOON - DAY_MS, NOON, NOON + 1, NOON + 12 * 60 * 60 * 1000 - 1, NOON + DAY_MS].into_iter().enumerate() {
            for who in [&house.anna, &house.kim] {
                house.used(NewUsage { team: format!("t{}", n % 2), ..usage(who, created_at) }).await;
            }
        }
        house
    }

    /// Opened and settled, with a price.
    async fn used(&self, new: NewUsage) {
        let new = NewUsage { reserved: Some(("EUR".parse().unwrap(), Amount::ZERO)), ..new };
        let cost = Amount::new("cost", "0.333333333333".parse().unwrap()).unwrap();
        let with = store::usage::Settlement { cost, ..settlement(&new, Outcome::Ok, new.created_at + 1_000) };
        self.test.db.write_ledger(&[&new], &[&with]).await.unwrap();
    }

    async fn figures(&self) -> Figures {
        let user = self.anna.user().unwrap();
        let tx = self.test.db.begin(&self.anna).await.unwrap();
        let (all, first) = (tx.usage().report(user, FIRST, LAST).await.unwrap(), tx.usage().report(user, FIRST, FIRST).await.unwrap());
        let as_of = tx.usage().as_of(user).await.unwrap();
        let tx = self.system().await;
        let charges = tx.usage().charges(self.anna.tenant(), FIRST, LAST).await.unwrap();
        let sums = tx.administration().ledger(self.anna.tenant(), user).await.unwrap();
        Figures { reports: vec![all, first], as_of, charges, sums }
    }

    async fn system(&self) -> SystemTx {
        self.test.db.begin_system("test", Reason::Purge).await.unwrap()
    }

    async fn prepare(&self) {
        let tx = self.system().await;
        tx.ledger_days().prepare().await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Days of long ago that are not closed.
    async fn unclosed(&self) -> Vec<Date> {
        self.system().await.ledger_days().unclosed(date!(2021 - 01 - 01)).await.unwrap()
    }

    async fn close(&self, day: Date) -> bool {
        let tx = self.system().await;
        let closed = tx.ledger_days().close(day, SystemClock.now()).await.unwrap();
        tx.commit().await.unwrap();
        closed
    }

    async fn end(&self, day: Date) -> Option<i64> {
        let tx = self.system().await;
        let ended = tx.ledger_days().end(day, SystemClock.now()).await.unwrap();
        tx.commit().await.unwrap();
        ended
    }

    async fn count(&self, from: &str) -> i64 {
        self.test.count_as_owner(&format!("SELECT count(*) AS value FROM {from}")).await
    }
}

#[tokio::test]
async fn what_has_no_partition_is_kept_and_moves_into_one() {
    let house = House::build().await;
    let before = house.figures().await;
    assert_eq!(before.sums.settled, 5);
    assert_eq!(house.count("usage_event_rest").await, 10);
    house.prepare().await;
    assert_eq!(house.count("usage_event_rest").await, 0);
    assert_eq!(house.count("usage_event_20200301").await, 6);
    assert_eq!(house.figures().await, before);
    house.prepare().await;
    let today = OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).unwrap().date();
    for ahead in 0..=7 {
        let day = (today + time::Duration::days(ahead)).to_string().replace('-', "");
        let there = format!("pg_inherits WHERE inhparent = 'usage_event'::regclass AND inhrelid = to_regclass('usage_event_{day}')");
        assert_eq!(house.count(&there).await, 1, "{day}");
    }
    // A person who goes is forgotten in every partition, and what is settled stays settled there.
    let tx = house.test.db.begin(&house.kim).await.unwrap();
    tx.users().delete(house.kim.user().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(house.count("usage_event WHERE user_id IS NULL").await, 5);
    let forged = std::panic::AssertUnwindSafe(execute_as_owner(&house.test, "UPDATE usage_event SET prompt_tokens = 0"));
    assert!(futures::FutureExt::catch_unwind(forged).await.is_err());
}

#[tokio::test]
async fn sums_say_what_the_ledger_says() {
    let house = House::build().await;
    let ledger = house.figures().await;
    house.prepare().await;
    assert_eq!(house.unclosed().await, [FIRST, date!(2020 - 03 - 01), LAST]);
    for day in [FIRST, LAST] {
        assert!(house.close(day).await);
        assert_eq!(house.figures().await, ledger, "sums of some days, the ledger of others");
    }
    assert!(house.close(date!(2020 - 03 - 01)).await);
    assert_eq!(house.figures().await, ledger);
    assert!(house.unclosed().await.is_empty());
    // It is the sums that are read.
    execute_as_owner(&house.test, "UPDATE usage_daily SET requests = requests + 1").await;
    assert_ne!(house.figures().await.charges, ledger.charges);
    assert!(house.close(FIRST).await && house.close(date!(2020 - 03 - 01)).await && house.close(LAST).await);
    assert_eq!(house.figures().await, ledger, "sums are made anew, not added up");
}

#[tokio::test]
async fn what_comes_late_opens_its_day_again() {
    let house = House::build().await;
    house.prepare().await;
    for day in house.unclosed().await {
        assert!(house.close(day).await);
    }
    let before = house.figures().await;
    house.used(usage(&house.anna, NOON + 7)).await;
    assert_eq!(house.unclosed().await, [date!(2020 - 03 - 01)]);
    let late = house.figures().await;
    assert_eq!((late.sums.settled, late.charges.len()), (before.sums.settled + 1, before.charges.len() + 1));
    assert!(house.close(date!(2020 - 03 - 01)).await);
    assert_eq!(house.figures().await, late);
}

#[tokio::test]
async fn a_day_with_something_open_stays_open() {
    let house = House::build().await;
    let new = usage(&house.anna, NOON + 7);
    open(&house.test, &new).await;
    house.prepare().await;
    let day = date!(2020 - 03 - 01);
    assert!(!house.close(day).await);
    assert_eq!(house.end(day).await, None);
    assert_eq!((house.figures().await.sums.open, house.count("usage_daily").await), (1, 0));
    assert!(settle(&house.test, &new, Outcome::Ok, NOON + 60_000).await);
    assert!(house.close(day).await);
    // Today is not over, whatever the clock of a process says.
    let today = OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).unwrap().date();
    assert!(!house.close(today + time::Duration::DAY).await);
}

#[tokio::test]
async fn an_ended_day_is_told_from_its_sums() {
    let house = House::build().await;
    let ledger = house.figures().await;
    house.prepare().await;
    for (day, uses) in [(FIRST, 2), (date!(2020 - 03 - 01), 6), (LAST, 2)] {
        assert_eq!(house.end(day).await, Some(uses));
        assert_eq!(house.figures().await, ledger);
    }
    assert_eq!(house.count("usage_event").await, 0);
    assert_eq!(house.count("pg_class WHERE relname LIKE 'usage\\_event\\_2020%'").await, 0);
    // Even then something may come. It counts, and ends with the next look.
    house.used(usage(&house.anna, NOON + 7)).await;
    let late = house.figures().await;
    assert_eq!(late.sums.settled, ledger.sums.settled + 1);
    for _ in 0..2 {
        house.prepare().await;
        for day in house.unclosed().await {
            assert!(house.close(day).await);
        }
        assert_eq!(house.figures().await, late);
        assert_eq!(house.count("usage_event").await, 0);
    }
    // Whoever goes is forgotten here, too; what was used stays.
    let tx = house.test.db.begin(&house.anna).await.unwrap();
    tx.users().delete(house.anna.user().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(house.figures().await.charges, late.charges);
}

#[tokio::test]
async fn no_day_of_the_last_year_ends() {
    let house = House::build().await;
    let ago = SystemClock.now() - 300 * DAY_MS;
    house.used(usage(&house.anna, ago)).await;
    house.prepare().await;
    let day = OffsetDateTime::from_unix_timestamp(ago / 1000).unwrap().date();
    assert!(house.close(day).await);
    let tx = house.system().await;
    assert!(tx.ledger_days().kept(day + time::Duration::DAY).await.unwrap().contains(&day));
    assert!(tx.ledger_days().end(day, SystemClock.now()).await.is_err(), "budgets of a year are counted from it");
    drop(tx);
    assert_eq!(house.figures().await.sums.settled, 6);
}

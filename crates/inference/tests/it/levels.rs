//! Budgets and limits at each level: they count for all whom their name fits, and for nobody else.

use crate::{
    money::{COST, answer, reserved, short, world},
    setup::read,
};
use contract::account::Role;
use domain::{Actor, Amount, Error, Payer, Quota, Result, quota::Level};
use inference::Generation;
use store::rate_limits::RateLimit;
use testkit::{
    TestDb,
    actors::{another_key, program_of},
    quotas::{amount, budget, limit, spent},
};

/// Those of an organisation of their own who ask.
struct Case {
    level: Level,
    /// The name that a budget or a limit has; `None`: each one of the level by itself.
    name: Option<String>,
    one: Actor,
    /// Has the same name at this level, and another one wherever that is possible beside it.
    same: Actor,
    /// The other way round; nobody beside the organisation itself.
    other: Option<Actor>,
}

impl Case {
    async fn of(db: &TestDb, slug: &str, level: Level, named: bool) -> Self {
        let tenant = testkit::tenant(db, slug).await;
        let person = || testkit::user(db, &tenant, &[Role::User]);
        let program = |team: &'static str, cost_center: &'static str| program_of(db, &tenant, team, cost_center);
        let one = if level == Level::User { person().await } else { program("Statistics", "4711").await };
        let (same, other) = match level {
            Level::Tenant => (program("Archive", "4712").await, None),
            Level::CostCenter => (program("Archive", "4711").await, Some(program("Statistics", "4712").await)),
            Level::Team => (program("Statistics", "4712").await, Some(program("Archive", "4711").await)),
            Level::ServiceAccount => (another_key(&one), Some(program("Statistics", "4711").await)),
            Level::Key => (one.clone(), Some(another_key(&one))),
            Level::User => (one.clone(), Some(person().await)),
        };
        let name = if named { Payer::of(&one).subject(level) } else { None };
        Self { level, name, one, same, other }
    }

    /// Of each level, with a name and without.
    async fn all(db: &TestDb, slug: &str) -> Vec<Self> {
        let mut all = Vec::new();
        for level in Level::ALL {
            for named in [false, true] {
                // An organisation needs no name.
                if level == Level::Tenant && named {
                    continue;
                }
                let slug = format!("{slug}-{}", all.len());
                all.push(Self::of(db, &slug, level, named).await);
            }
        }
        all
    }

    fn told(&self) -> String {
        format!("{:?} of {:?}", self.level, self.name)
    }

    /// What ran out for whoever has the name, by a refusal that says at which level it did.
    fn refused(&self, outcome: Result<Generation>) -> Quota {
        match outcome {
            Err(Error::QuotaExceeded { quota, which, .. }) => {
                assert!(which.starts_with(self.level.noun()), "{}: {which}", self.told());
                quota
            }
            Err(error) => panic!("{}: {error}", self.told()),
            Ok(_) => panic!("{}: not refused", self.told()),
        }
    }

    fn admitted(&self, outcome: Result<Generation>) -> Generation {
        outcome.unwrap_or_else(|error| panic!("{}: {error}", self.told()))
    }
}

#[tokio::test]
async fn a_budget_of_each_level_is_spent_by_all_of_that_name_and_by_nobody_else() {
    let s = world().await;
    let cases = Case::all(&s.db, "budget").await;
    for case in &cases {
        budget(&s.db, case.one.tenant(), case.level, case.name.as_deref(), &reserved().to_string(), true).await;
    }
    for case in &cases {
        read(&mut case.admitted(s.inference.admit(&case.one, short()).await)).await;
        for refused in [&case.one, &case.same] {
            assert_eq!(case.refused(s.inference.admit(refused, short()).await), Quota::Budget);
        }
        if let Some(other) = &case.other {
            read(&mut case.admitted(s.inference.admit(other, short()).await)).await;
        }
    }
    s.inference.drain().await;
    for case in &cases {
        // Where each has one, the other's is spent as well.
        let counted = [Some(&case.one), case.other.as_ref().filter(|_| case.name.is_none())];
        let mut expected: Vec<String> = counted.into_iter().flatten().filter_map(|payer| Payer::of(payer).subject(case.level)).collect();
        let states = spent(&s.db, case.one.tenant()).await;
        let mut subjects: Vec<String> = states.iter().map(|state| state.subject.clone()).collect();
        expected.sort();
        subjects.sort();
        assert_eq!(subjects, expected, "{}: {states:?}", case.told());
        assert!(
            states.iter().all(|state| (state.spent, state.held) == (amount(COST), Amount::ZERO)),
            "{}: {states:?}. If you are here because this failed: a use is paid by somebody else's budget.",
            case.told()
        );
    }
}

type Change = fn(&mut RateLimit);

#[tokio::test]
async fn a_limit_of_each_level_counts_all_of_that_name_and_nobody_else() {
    let s = world().await;
    // What is asked first runs as long as the others ask.
    s.worker.otherwise(answer().hangs_after(1));
    // One use is estimated at 34 tokens.
    let kinds: [(Quota, Change); 3] = [
        (Quota::Requests(1), |limit| limit.requests = Some(1)),
        (Quota::Tokens(40), |limit| limit.tokens = Some(40)),
        (Quota::Places(1), |limit| limit.places = Some(1)),
    ];
    let mut limited = Vec::new();
    for (number, (quota, change)) in kinds.into_iter().enumerate() {
        let cases = Case::all(&s.db, &format!("limit-{number}")).await;
        for case in &cases {
            limit(&s.db, case.one.tenant(), case.level, |limit| {
                change(limit);
                limit.subject.clone_from(&case.name);
            })
            .await;
        }
        limited.push((quota, cases));
    }
    for (quota, case) in limited.iter().flat_map(|(quota, cases)| cases.iter().map(move |case| (*quota, case))) {
        let running = case.admitted(s.inference.admit(&case.one, short()).await);
        for refused in [&case.one, &case.same] {
            assert_eq!(case.refused(s.inference.admit(refused, short()).await), quota);
        }
        if let Some(other) = &case.other {
            drop(case.admitted(s.inference.admit(other, short()).await));
        }
        drop(running);
    }
}

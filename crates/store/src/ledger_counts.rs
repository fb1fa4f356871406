//! What processes settled by their own count, and how the ledger's rows compare with it (ADR 14).
//!
//! A process counts a use when it settles it, before the use is on its way into the ledger, by organisation and day (UTC, of the
//! request). It tells whole figures, never differences, so that they can be told again.

use crate::{
    chat_sql::{all, instant, int, millis, one, run, sql},
    tx::SystemTx,
    usage::{Settlement, midnight},
};
use contract::{
    Millis,
    ids::{NodeId, TenantId},
};
use domain::Result;
use sea_orm::{FromQueryResult, Value};
use std::collections::{HashMap, HashSet};
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

/// So many days before today are compared anew every night.
const COMPARED: Duration = Duration::days(7);
/// So long figures stay with a process that nothing is added to any more: no use lasts longer than a day.
const KEPT: Duration = Duration::days(2);
/// Summing up a day may take longer than a statement of a request.
const PATIENCE: &str = "SELECT set_config('statement_timeout', '10min', true)";
/// One process at a time compares.
const ALONE: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended('ledger comparison', 0)) AS yes";

/// What was told later than this stays. An organisation that is gone took its figures along.
const TELL: &str = "INSERT INTO ledger_count AS l
    (tenant_id, day, node_id, uses, prompt_tokens, cached_tokens, completion_tokens, settled_at)
  SELECT c.tenant_id, c.day::date, $8, c.uses, c.prompt_tokens, c.cached_tokens, c.completion_tokens, c.settled_at
  FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[])
      AS c(tenant_id, day, uses, prompt_tokens, cached_tokens, completion_tokens, settled_at)
    JOIN tenant t ON t.id = c.tenant_id
  ON CONFLICT (tenant_id, day, node_id) DO UPDATE
  SET uses = EXCLUDED.uses, prompt_tokens = EXCLUDED.prompt_tokens, cached_tokens = EXCLUDED.cached_tokens,
      completion_tokens = EXCLUDED.completion_tokens, settled_at = EXCLUDED.settled_at
  WHERE l.uses < EXCLUDED.uses";

/// Of one moment. What the sweeper settled is nobody's count: it has no figures.
const COMPARE: &str = "WITH ledger AS (
    SELECT e.tenant_id, e.node_id, count(*) FILTER (WHERE e.state = 'open') AS running,
           count(*) FILTER (WHERE e.outcome = 'swept') AS swept, count(*) FILTER (WHERE e.outcome <> 'swept') AS uses,
           coalesce(sum(e.prompt_tokens) FILTER (WHERE e.outcome <> 'swept'), 0)::bigint AS prompt_tokens,
           coalesce(sum(e.cached_tokens) FILTER (WHERE e.outcome <> 'swept'), 0)::bigint AS cached_tokens,
           coalesce(sum(e.completion_tokens) FILTER (WHERE e.outcome <> 'swept'), 0)::bigint AS completion_tokens,
           max(e.settled_at) FILTER (WHERE e.outcome <> 'swept') AS settled_at
    FROM usage_event e WHERE e.created_at >= $2 AND e.created_at < $3
    GROUP BY e.tenant_id, e.node_id
  ), counted AS (
    SELECT * FROM ledger_count WHERE day = $1
  )
  SELECT coalesce(l.tenant_id, c.tenant_id) AS tenant_id, coalesce(l.node_id, c.node_id) AS node_id,
         coalesce(l.running, 0) AS running, coalesce(l.swept, 0) AS swept, coalesce(l.uses, 0) AS uses,
         coalesce(l.prompt_tokens, 0) AS prompt_tokens, coalesce(l.cached_tokens, 0) AS cached_tokens,
         coalesce(l.completion_tokens, 0) AS completion_tokens, l.settled_at, coalesce(c.uses, 0) AS counted_uses,
         coalesce(c.prompt_tokens, 0) AS counted_prompt_tokens, coalesce(c.cached_tokens, 0) AS counted_cached_tokens,
         coalesce(c.completion_tokens, 0) AS counted_completion_tokens, c.settled_at AS counted_at
  FROM ledger l FULL JOIN counted c ON c.tenant_id = l.tenant_id AND c.node_id = l.node_id
  ORDER BY 1, 2";

/// Closed days that were not compared since they were closed, or not since `$3`.
const DUE: &str = "SELECT day FROM ledger_day
  WHERE day >= $1::date AND day < $2::date AND closed_at IS NOT NULL AND dropped_at IS NULL
    AND (compared_at IS NULL OR compared_at < closed_at OR compared_at < $3)
  ORDER BY day";

const NOTE: &str = "UPDATE ledger_day d SET compared_at = $2, drift_uses = $3::bigint, drift_tokens = $4::bigint
  FROM (SELECT day, compared_at, drift_uses, drift_tokens FROM ledger_day WHERE day = $1) b
  WHERE d.day = b.day
  RETURNING b.compared_at IS NULL OR b.drift_uses <> $3::bigint OR b.drift_tokens <> $4::bigint AS yes";

const STANDING: &str =
    "SELECT coalesce(sum(drift_uses), 0)::bigint AS uses, coalesce(sum(drift_tokens), 0)::bigint AS tokens FROM ledger_day WHERE day >= $1";

/// Sums of uses, or by how much two such sums differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub uses: i64,
    pub prompt_tokens: i64,
    /// Part of `prompt_tokens`.
    pub cached_tokens: i64,
    pub completion_tokens: i64,
}

impl Figures {
    /// As the ledger writes them.
    fn of(with: &Settlement) -> Self {
        Self {
            uses: 1,
            prompt_tokens: int(with.prompt_tokens).into(),
            cached_tokens: int(with.cached_tokens.min(with.prompt_tokens)).into(),
            completion_tokens: int(with.completion_tokens).into(),
        }
    }

    fn with(self, other: Self, both: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            uses: both(self.uses, other.uses),
            prompt_tokens: both(self.prompt_tokens, other.prompt_tokens),
            cached_tokens: both(self.cached_tokens, other.cached_tokens),
            completion_tokens: both(self.completion_tokens, other.completion_tokens),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        self.with(more, |own, other| own + other)
    }
}

/// What a process settled.
#[derive(Debug, Default)]
pub struct Counts(HashMap<(Uuid, Date), Count>);

/// Of one organisation and day.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    tenant: Uuid,
    day: Date,
    figures: Figures,
    /// When the newest of them was settled.
    newest: Millis,
    /// Uses of them that the database was told of.
    told: i64,
}

impl Counts {
    /// A use is settled.
    pub fn add(&mut self, with: &Settlement) {
        // The ledger has no room for another time either.
        let Ok(opened_at) = instant(with.opened_at) else { return };
        let (tenant, day) = (with.tenant.0, opened_at.date());
        let new = Count { tenant, day, figures: Figures::default(), newest: with.at, told: 0 };
        let count = self.0.entry((tenant, day)).or_insert(new);
        count.figures = count.figures.plus(Figures::of(with));
        count.newest = count.newest.max(with.at);
    }

    /// What the database does not know yet.
    #[must_use]
    pub fn untold(&self) -> Vec<Count> {
        self.0.values().filter(|count| count.told < count.figures.uses).copied().collect()
    }

    /// The database knows it now. Forgets what nothing is added to any more.
    pub fn told(&mut self, counts: &[Count], now: Millis) {
        for told in counts {
            if let Some(count) = self.0.get_mut(&(told.tenant, told.day)) {
                count.told = count.told.max(told.figures.uses);
            }
        }
        if let Ok(now) = instant(now) {
            let first = now.date().saturating_sub(KEPT);
            self.0.retain(|_, count| count.day >= first || count.told < count.figures.uses);
        }
    }
}

/// What a process settled for an organisation on a day, beside the ledger's rows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    pub tenant: TenantId,
    /// `None` for rows that name none.
    pub node: Option<NodeId>,
    pub counted: Figures,
    /// In settled rows, without what the sweeper settled.
    pub ledger: Figures,
    /// Rows that are open.
    pub running: i64,
    /// Rows that the sweeper settled.
    pub swept: i64,
    /// Of the ledger's newest use the process told nothing: it ended before, or is about to tell.
    pub untold: bool,
}

impl Compared {
    /// What the ledger has too much, or, where it is negative, too little. Too much is no difference where not all was told.
    #[must_use]
    pub fn drift(&self) -> Figures {
        let least = if self.untold { 0 } else { i64::MAX };
        self.ledger.with(self.counted, |ledger, counted| (ledger - counted).min(least))
    }

    /// Of how many processes not all was told, whatever number of organisations they served.
    #[must_use]
    pub fn untold_processes(all: &[Self]) -> usize {
        all.iter().filter(|one| one.untold).map(|one| one.node).collect::<HashSet<_>>().len()
    }
}

/// By how much the ledger differs from what was settled; too much and too little do not cancel out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromQueryResult)]
pub struct Drift {
    pub uses: i64,
    /// Of prompts, of these from a cache, and of completions: what differs in two ways counts twice.
    pub tokens: i64,
}

impl Drift {
    /// Of all of them.
    #[must_use]
    pub fn of(all: &[Compared]) -> Self {
        all.iter().map(Compared::drift).fold(Self::default(), |sum, drift| Self {
            uses: sum.uses + drift.uses.abs(),
            tokens: sum.tokens + drift.prompt_tokens.abs() + drift.cached_tokens.abs() + drift.completion_tokens.abs(),
        })
    }

    /// Nothing differs.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// See the module.
#[derive(Debug)]
pub struct SystemLedgerCounts<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemLedgerCounts<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Writes down what a process settled.
    ///
    /// # Errors
    /// As for any statement; it can be told again.
    pub async fn tell(&self, node: NodeId, counts: &[Count]) -> Result<()> {
        let number = |of: fn(&Figures) -> i64| -> Value { counts.iter().map(|count| of(&count.figures)).collect::<Vec<i64>>().into() };
        let values = [
            counts.iter().map(|count| count.tenant).collect::<Vec<Uuid>>().into(),
            counts.iter().map(|count| count.day.to_string()).collect::<Vec<String>>().into(),
            number(|figures| figures.uses),
            number(|figures| figures.prompt_tokens),
            number(|figures| figures.cached_tokens),
            number(|figures| figures.completion_tokens),
            counts.iter().map(|count| instant(count.newest)).collect::<Result<Vec<OffsetDateTime>>>()?.into(),
            node.0.into(),
        ];
        run(self.tx.conn(), sql(TELL, values)).await.map(drop)
    }

    /// Compares a day, by organisation and process.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn compare(&self, day: Date) -> Result<Vec<Compared>> {
        run(self.tx.conn(), sql(PATIENCE, [])).await?;
        let bounds = [day.into(), midnight(day).into(), (midnight(day) + Duration::DAY).into()];
        let rows: Vec<Row> = all(self.tx.conn(), sql(COMPARE, bounds)).await?;
        Ok(rows.into_iter().map(Compared::from).collect())
    }

    /// Nobody else compares until the transaction ends; `false` if somebody does.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn alone(&self) -> Result<bool> {
        let answer: Option<Answer> = one(self.tx.conn(), sql(ALONE, [])).await?;
        Ok(answer.is_some_and(|row| row.yes))
    }

    /// Days that are to be compared now, oldest first: each of the last ones that is closed, once a night, and again if something
    /// came late.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn due(&self, now: Millis) -> Result<Vec<Date>> {
        let today = instant(now)?.date();
        let values = [today.saturating_sub(COMPARED).into(), today.into(), midnight(today).into()];
        let rows: Vec<DayRow> = all(self.tx.conn(), sql(DUE, values)).await?;
        Ok(rows.into_iter().map(|row| row.day).collect())
    }

    /// Writes down how a day of the ledger compared. Returns whether that is news.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn note(&self, day: Date, drift: Drift, at: Millis) -> Result<bool> {
        let values = [day.into(), instant(at)?.into(), drift.uses.into(), drift.tokens.into()];
        let answer: Option<Answer> = one(self.tx.conn(), sql(NOTE, values)).await?;
        Ok(answer.is_some_and(|row| row.yes))
    }

    /// What differed when the last days were compared.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn standing(&self, now: Millis) -> Result<Drift> {
        let first = instant(now)?.date().saturating_sub(COMPARED);
        Ok(one(self.tx.conn(), sql(STANDING, [first.into()])).await?.unwrap_or_default())
    }
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: Uuid,
    node_id: Option<Uuid>,
    running: i64,
    swept: i64,
    uses: i64,
    prompt_tokens: i64,
    cached_tokens: i64,
    completion_tokens: i64,
    settled_at: Option<OffsetDateTime>,
    counted_uses: i64,
    counted_prompt_tokens: i64,
    counted_cached_tokens: i64,
    counted_completion_tokens: i64,
    counted_at: Option<OffsetDateTime>,
}

impl From<Row> for Compared {
    fn from(row: Row) -> Self {
        Self {
            tenant: row.tenant_id.into(),
            node: row.node_id.map(Into::into),
            counted: Figures {
                uses: row.counted_uses,
                prompt_tokens: row.counted_prompt_tokens,
                cached_tokens: row.counted_cached_tokens,
                completion_tokens: row.counted_completion_tokens,
            },
            ledger: Figures {
                uses: row.uses,
                prompt_tokens: row.prompt_tokens,
                cached_tokens: row.cached_tokens,
                completion_tokens: row.completion_tokens,
            },
            running: row.running,
            swept: row.swept,
            untold: row.settled_at.map(millis) > row.counted_at.map(millis),
        }
    }
}

#[derive(FromQueryResult)]
struct Answer {
    yes: bool,
}

#[derive(FromQueryResult)]
struct DayRow {
    day: Date,
}

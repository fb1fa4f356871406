//! The days of the ledger: a partition for each, sums of those that are over, and their end (ADR 14).

use crate::{
    chat_sql::{all, instant, one, run, sql},
    tx::SystemTx,
    usage::{LAST_DAY, midnight},
};
use contract::Millis;
use domain::Result;
use sea_orm::{DatabaseTransaction, FromQueryResult};
use time::{Date, Duration, OffsetDateTime};

/// Partitions are made so many days before they are needed.
const DAYS_AHEAD: i32 = 7;
/// Summing up or moving a day may take longer than a statement of a request. Who waits for us while we wait for them (deleting
/// a person, say) is not the one whom Postgres ends after a second: we give up first.
const PATIENCE: &str = "SELECT set_config('statement_timeout', '10min', true), set_config('lock_timeout', '500ms', true)";

/// Sums of what is settled. They count uses of people who are forgotten, too.
const SUM_UP: &str = "INSERT INTO usage_daily (tenant_id, day, user_id, account_id, key_id, team, cost_center, model, purpose, currency,
                           requests, failures, from_cache, prompt_tokens, cached_tokens, completion_tokens, cost,
                           ttft_ms, ttft_count, duration_ms, duration_count, settled_at)
  SELECT tenant_id, $1::date, user_id, account_id, key_id, team, cost_center, model, purpose, currency,
         count(*), count(*) FILTER (WHERE outcome IN ('failed', 'swept')), count(*) FILTER (WHERE outcome = 'cached'),
         sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(cost), coalesce(sum(ttft_ms), 0), count(ttft_ms), coalesce(sum(duration_ms), 0), count(duration_ms), max(settled_at)
  FROM usage_event WHERE created_at >= $2 AND created_at < $3
  GROUP BY tenant_id, user_id, account_id, key_id, team, cost_center, model, purpose, currency";

/// What was used from `$2` to before `$3`, both midnights in UTC, as a table `u` with the columns of `usage_daily` but for
/// `number`, `failures` and times: sums of the days that are closed, and the settled events of the others one by one.
/// `whose` is a condition on `u`, columns that both have.
///
/// Whether a day is closed is read in the same moment as the figures. Partitions before the first day that is not are not read.
pub(crate) fn used(whose: &str) -> String {
    format!(
        "(SELECT u.tenant_id, u.day, u.user_id, u.account_id, u.key_id, u.team, u.cost_center, u.model, u.purpose, u.currency,
                 u.requests, u.from_cache, u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.cost, u.settled_at
          FROM usage_daily u JOIN ledger_day l ON l.day = u.day AND (l.closed_at IS NOT NULL OR l.dropped_at IS NOT NULL)
          WHERE {whose} AND u.day >= ($2::timestamptz AT TIME ZONE 'UTC')::date AND u.day < ($3::timestamptz AT TIME ZONE 'UTC')::date
          UNION ALL
          SELECT u.tenant_id, l.day, u.user_id, u.account_id, u.key_id, u.team, u.cost_center, u.model, u.purpose, u.currency,
                 1, (u.outcome = 'cached')::int, u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.cost, u.settled_at
          FROM usage_event u JOIN ledger_day l ON l.day = (u.created_at AT TIME ZONE 'UTC')::date AND l.closed_at IS NULL
          WHERE {whose} AND u.state = 'settled' AND u.created_at >= $2::timestamptz AND u.created_at < $3::timestamptz
            AND u.created_at >= (SELECT min(f.day)::timestamp AT TIME ZONE 'UTC' FROM ledger_day f WHERE f.closed_at IS NULL)) AS u"
    )
}

/// When the first day begins that is not closed: only from then on the ledger has what the sums do not have. What comes late
/// this very moment may lie before.
pub(crate) async fn first_open(conn: &DatabaseTransaction) -> Result<OffsetDateTime> {
    let statement = sql("SELECT day FROM ledger_day WHERE closed_at IS NULL ORDER BY day LIMIT 1", []);
    let first: Option<DayRow> = one(conn, statement).await?;
    Ok(midnight(first.map_or(LAST_DAY, |row| row.day)))
}

/// The days of the ledger, for the job that looks after them.
#[derive(Debug)]
pub struct SystemLedgerDays<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemLedgerDays<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Makes partitions for the days to come, and for what lies in none of its own. Returns how many.
    ///
    /// # Errors
    /// [`domain::Error::Unavailable`] if somebody keeps the ledger locked for seconds: try again.
    pub async fn prepare(&self) -> Result<u64> {
        run(self.tx.conn(), sql(PATIENCE, [])).await?;
        let made: Option<Made> = one(self.tx.conn(), sql("SELECT ledger_prepare($1) AS made", [DAYS_AHEAD.into()])).await?;
        Ok(made.and_then(|row| u64::try_from(row.made).ok()).unwrap_or(0))
    }

    /// Days before `before` whose sums are not known or not right any more, oldest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn unclosed(&self, before: Date) -> Result<Vec<Date>> {
        self.days("SELECT day FROM ledger_day WHERE closed_at IS NULL AND day < $1 ORDER BY day", before).await
    }

    /// Days before `before` that are closed and still have a partition, oldest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn kept(&self, before: Date) -> Result<Vec<Date>> {
        let text = "SELECT day FROM ledger_day WHERE closed_at IS NOT NULL AND dropped_at IS NULL AND day < $1 ORDER BY day";
        self.days(text, before).await
    }

    /// Sums up a past day, anew if it was before; from then on reports read the sums. What comes later opens it again. Does
    /// nothing and says `false` if something of that day is still open.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub async fn close(&self, day: Date, at: Millis) -> Result<bool> {
        run(self.tx.conn(), sql(PATIENCE, [])).await?;
        let held: Option<Held> = one(self.tx.conn(), sql("SELECT ledger_hold($1) AS held", [day.into()])).await?;
        if !held.is_some_and(|row| row.held) {
            return Ok(false);
        }
        let dropped = "SELECT dropped_at IS NOT NULL AS held FROM ledger_day WHERE day = $1";
        let dropped: Option<Held> = one(self.tx.conn(), sql(dropped, [day.into()])).await?;
        let dropped = dropped.is_some_and(|row| row.held);
        if !dropped {
            run(self.tx.conn(), sql("DELETE FROM usage_daily WHERE day = $1", [day.into()])).await?;
        }
        let bounds = [day.into(), midnight(day).into(), (midnight(day) + Duration::DAY).into()];
        run(self.tx.conn(), sql(SUM_UP, bounds)).await?;
        let closed = sql("UPDATE ledger_day SET closed_at = $2 WHERE day = $1", [day.into(), instant(at)?.into()]);
        run(self.tx.conn(), closed).await?;
        if dropped {
            // What came later still than its end was added to the sums, and would be once more the next time.
            self.drop_partition(day).await?;
        }
        Ok(true)
    }

    /// Ends a day that is closed and older than a year: its sums stay. Returns of how many uses; `None`: something of it is
    /// open.
    ///
    /// # Errors
    /// [`domain::Error::Internal`] for a younger day; else as [`Self::prepare`].
    pub async fn end(&self, day: Date, at: Millis) -> Result<Option<i64>> {
        if !self.close(day, at).await? {
            return Ok(None);
        }
        self.drop_partition(day).await?;
        let statement = sql("SELECT coalesce(sum(requests), 0)::bigint AS made FROM usage_daily WHERE day = $1", [day.into()]);
        let uses: Option<Made> = one(self.tx.conn(), statement).await?;
        Ok(uses.map(|row| row.made))
    }

    async fn drop_partition(&self, day: Date) -> Result<()> {
        run(self.tx.conn(), sql("SELECT ledger_drop($1)", [day.into()])).await?;
        // Nothing is left that it could be compared with.
        run(self.tx.conn(), sql("DELETE FROM ledger_count WHERE day = $1", [day.into()])).await.map(drop)
    }

    async fn days(&self, text: &str, before: Date) -> Result<Vec<Date>> {
        let rows: Vec<DayRow> = all(self.tx.conn(), sql(text, [before.into()])).await?;
        Ok(rows.into_iter().map(|row| row.day).collect())
    }
}

#[derive(FromQueryResult)]
struct Made {
    made: i64,
}

#[derive(FromQueryResult)]
struct Held {
    held: bool,
}

#[derive(FromQueryResult)]
struct DayRow {
    day: Date,
}

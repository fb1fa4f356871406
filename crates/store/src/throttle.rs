//! Counting of sign-in attempts, shared by all replicas.

use crate::{
    chat_sql::{count, instant, millis, one, run, sql},
    tx::SystemTx,
};
use contract::Millis;
use domain::Result;
use sea_orm::FromQueryResult;
use time::OffsetDateTime;

/// What is counted: a hash of the e-mail or of the client's address, so that the table names nobody.
pub type ThrottleKey = [u8; 32];

/// How much is too much.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleRule {
    /// Failures within the window that are still allowed.
    pub limit: u32,
    pub window_ms: i64,
    /// The first wait; each further failure doubles it.
    pub first_wait_ms: i64,
    pub longest_wait_ms: i64,
}

impl ThrottleRule {
    /// The wait after this many failures; zero below the limit.
    #[must_use]
    pub fn wait_ms(&self, failures: u32) -> i64 {
        let Some(beyond) = failures.checked_sub(self.limit) else { return 0 };
        let factor = 1_i64.checked_shl(beyond.min(30)).unwrap_or(i64::MAX);
        self.first_wait_ms.saturating_mul(factor).min(self.longest_wait_ms)
    }
}

/// The counters.
#[derive(Debug)]
pub struct Throttle<'a> {
    tx: &'a SystemTx,
}

#[derive(FromQueryResult)]
struct CounterRow {
    failures: i32,
    window_started_at: OffsetDateTime,
    blocked_until: Option<OffsetDateTime>,
}

impl<'a> Throttle<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Counts an attempt *before* it is made, so that attempts made at the same time cannot all pass; a
    /// successful one is given back with [`Throttle::forgive`] or [`Throttle::clear`].
    ///
    /// Returns until when the key is blocked, if it is; a blocked attempt does not count.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn attempt(&self, key: &ThrottleKey, rule: &ThrottleRule, at: Millis) -> Result<Option<Millis>> {
        let counter = self.locked(key, at).await?;
        if let Some(until) = counter.blocked_until.map(millis).filter(|until| *until > at) {
            return Ok(Some(until));
        }
        let window_is_over = millis(counter.window_started_at).saturating_add(rule.window_ms) <= at;
        let failures = if window_is_over { 1 } else { count(counter.failures).saturating_add(1) };
        let wait = rule.wait_ms(failures);
        let blocked_until = (wait > 0).then(|| at.saturating_add(wait));
        // The window runs on from the end of a wait: who comes back and fails again waits longer.
        let window = match (window_is_over, blocked_until) {
            (_, Some(until)) => until,
            (true, None) => at,
            (false, None) => millis(counter.window_started_at),
        };
        let statement = sql(
            "UPDATE sign_in_throttle SET failures = $2, window_started_at = $3, blocked_until = $4 WHERE key = $1",
            [
                key.to_vec().into(),
                i32::try_from(failures).unwrap_or(i32::MAX).into(),
                instant(window)?.into(),
                blocked_until.map(instant).transpose()?.into(),
            ],
        );
        run(self.tx.conn(), statement).await?;
        Ok(None)
    }

    /// Takes back one counted attempt, because it succeeded. Used for the client's address, which others share.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn forgive(&self, key: &ThrottleKey, rule: &ThrottleRule) -> Result<()> {
        let statement = sql(
            "UPDATE sign_in_throttle
             SET failures = greatest(failures - 1, 0), blocked_until = CASE WHEN failures > $2 THEN blocked_until END
             WHERE key = $1",
            [key.to_vec().into(), i32::try_from(rule.limit).unwrap_or(i32::MAX).into()],
        );
        run(self.tx.conn(), statement).await?;
        Ok(())
    }

    /// Forgets the key, because its owner proved who they are.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn clear(&self, key: &ThrottleKey) -> Result<()> {
        run(self.tx.conn(), sql("DELETE FROM sign_in_throttle WHERE key = $1", [key.to_vec().into()])).await?;
        Ok(())
    }

    /// Removes counters whose window and wait ended before `before`. Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn purge(&self, before: Millis) -> Result<u64> {
        let statement = sql(
            "DELETE FROM sign_in_throttle WHERE window_started_at < $1 AND coalesce(blocked_until, window_started_at) < $1",
            [instant(before)?.into()],
        );
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }

    /// The counter, locked until the transaction ends; made if there is none.
    async fn locked(&self, key: &ThrottleKey, at: Millis) -> Result<CounterRow> {
        let statement = sql(
            "INSERT INTO sign_in_throttle (key, failures, window_started_at) VALUES ($1, 0, $2)
             ON CONFLICT (key) DO UPDATE SET key = excluded.key
             RETURNING failures, window_started_at, blocked_until",
            [key.to_vec().into(), instant(at)?.into()],
        );
        one(self.tx.conn(), statement).await?.ok_or_else(|| domain::Error::internal("an upsert gave no row"))
    }
}

#[cfg(test)]
mod tests {
    use super::ThrottleRule;

    #[test]
    fn waits_grow_and_stop_growing() {
        let rule = ThrottleRule { limit: 5, window_ms: 900_000, first_wait_ms: 60_000, longest_wait_ms: 3_600_000 };
        let waits: Vec<i64> = [1, 4, 5, 6, 7, 11, 100].map(|failures| rule.wait_ms(failures)).to_vec();
        assert_eq!(waits, [0, 0, 60_000, 120_000, 240_000, 3_600_000, 3_600_000]);
    }
}

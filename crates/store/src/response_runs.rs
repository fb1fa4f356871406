//! The making of responses: signs of life, events, ends.
//!
//! Heartbeats are stamped with the database's clock, because several nodes compare them.

use crate::{
    chat_sql::{all, instant, one, run, sql},
    responses::{ResponseStatus, Used},
    turns::Appended,
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    chat::AnswerStats,
    ids::{ResponseId, TenantId},
    problem::Problem,
    usage::Money,
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use serde_json::Value;
use uuid::Uuid;

/// How a response ended.
#[derive(Clone, Debug)]
pub struct Finished {
    pub status: ResponseStatus,
    pub output: Value,
    pub stats: Option<AnswerStats>,
    /// `None` where there is no price; kept beside the figures alone.
    pub cost: Option<Money>,
    pub problem: Option<Problem>,
    pub at: Millis,
}

/// Repository of responses being made. The caller has checked the owner, or is the node that makes the response.
#[derive(Debug)]
pub struct ResponseRuns<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct EventRow {
    seq: i32,
    payload: Value,
}

#[derive(FromQueryResult)]
struct CancelRow {
    cancelled: bool,
}

impl<'a> ResponseRuns<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Notes that the model has begun.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(&self, id: ResponseId, node: Uuid) -> Result<()> {
        let statement =
            sql("UPDATE response SET status = 'in_progress' WHERE id = $1 AND node = $2 AND status = 'queued'", [id.0.into(), node.into()]);
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Events after number `after`, at most `limit`, in order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn events(&self, id: ResponseId, after: i32, limit: u32) -> Result<Vec<(i32, Value)>> {
        let statement = sql(
            "SELECT seq, payload FROM response_event WHERE response_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            [id.0.into(), after.into(), i64::from(limit).into()],
        );
        let rows = all::<EventRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(|row| (row.seq, row.payload)).collect())
    }

    /// Appends events (a list) from number `first` on and wakes those who follow, in one statement. Unless they are the
    /// last ones, the transaction does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there are events of these numbers; else those of the database.
    pub async fn append(&self, id: ResponseId, node: Uuid, first: i32, events: Value, last: bool) -> Result<Appended> {
        let statement = sql(
            "WITH r AS (SELECT id, cancel_requested_at FROM response WHERE id = $1 AND node = $2 AND ended_at IS NULL),
                  stored AS (
                    INSERT INTO response_event (tenant_id, response_id, seq, payload)
                    SELECT app_tenant(), r.id, $3 + e.n::int - 1, e.payload FROM r, jsonb_array_elements($4) WITH ORDINALITY AS e (payload, n)
                  )
             SELECT r.cancel_requested_at IS NOT NULL AS cancelled, pg_notify('turn', r.id::text),
                    CASE WHEN $5 THEN '' ELSE set_config('synchronous_commit', 'off', true) END
             FROM r",
            [id.0.into(), node.into(), first.into(), events.into(), last.into()],
        );
        Ok(match one::<CancelRow>(self.tx.conn(), statement).await? {
            Some(CancelRow { cancelled: false }) => Appended::Stored,
            Some(CancelRow { cancelled: true }) => Appended::CancelRequested,
            None => Appended::Lost,
        })
    }

    /// Says that the node is alive, without waiting for the disk; `None` if the response is no longer its own, else
    /// whether an end was asked for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn heartbeat(&self, id: ResponseId, node: Uuid) -> Result<Option<bool>> {
        let statement = sql(
            "UPDATE response SET heartbeat_at = now() WHERE id = $1 AND node = $2 AND ended_at IS NULL
             RETURNING cancel_requested_at IS NOT NULL AS cancelled, set_config('synchronous_commit', 'off', true)",
            [id.0.into(), node.into()],
        );
        Ok(one::<CancelRow>(self.tx.conn(), statement).await?.map(|row| row.cancelled))
    }

    /// Ends a response, which from then on names the model that answered; `false` if it had ended before.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finish(&self, id: ResponseId, end: &Finished) -> Result<bool> {
        let answered = end.stats.as_ref().map(|stats| stats.model.as_str());
        let used = end.stats.clone().map(|stats| Used { stats, cost: end.cost.clone() });
        let used = used.map(serde_json::to_value).transpose().map_err(Error::internal)?;
        let problem = end.problem.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)?;
        let statement = sql(
            "UPDATE response SET status = $2, output = $3, usage = $4, error = $5, ended_at = $6, model = coalesce($7, model),
                    bytes = bytes + octet_length($3::jsonb::text)
             WHERE id = $1 AND ended_at IS NULL",
            [
                id.0.into(),
                end.status.name().into(),
                end.output.clone().into(),
                used.into(),
                problem.into(),
                instant(end.at)?.into(),
                answered.into(),
            ],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Takes a response over whose node has given no sign of life for `seconds`: whether an end was asked for. `None`
    /// if the node has, or somebody else was quicker.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock_dead(&self, id: ResponseId, seconds: u32) -> Result<Option<bool>> {
        let statement = sql(
            "SELECT cancel_requested_at IS NOT NULL AS cancelled FROM response
             WHERE id = $1 AND status IN ('queued', 'in_progress') AND heartbeat_at < now() - make_interval(secs => $2) FOR UPDATE SKIP LOCKED",
            [id.0.into(), f64::from(seconds).into()],
        );
        Ok(one::<CancelRow>(self.tx.conn(), statement).await?.map(|row| row.cancelled))
    }

    /// Appends the last event of a response that was taken over with [`Self::lock_dead`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn append_last(&self, id: ResponseId, event: Value) -> Result<()> {
        let statement = sql(
            "INSERT INTO response_event (tenant_id, response_id, seq, payload)
             SELECT app_tenant(), $1, coalesce((SELECT max(seq) FROM response_event WHERE response_id = $1), 0) + 1, $2",
            [id.0.into(), event.into()],
        );
        run(self.tx.conn(), statement).await?;
        self.tx.notify(id).await
    }
}

/// Responses of all tenants, for the jobs. The system login cannot read what they say.
#[derive(Debug)]
pub struct SystemResponses<'a> {
    tx: &'a SystemTx,
}

#[derive(FromQueryResult)]
struct TenantRow {
    tenant_id: Uuid,
    id: Uuid,
}

impl<'a> SystemResponses<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Unfinished responses whose node has given no sign of life for `seconds`, the oldest first, at most 100.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn dead(&self, seconds: u32) -> Result<Vec<(TenantId, ResponseId)>> {
        let statement = sql(
            "SELECT tenant_id, id FROM response
             WHERE status IN ('queued', 'in_progress') AND heartbeat_at < now() - make_interval(secs => $1) ORDER BY heartbeat_at LIMIT 100",
            [f64::from(seconds).into()],
        );
        let rows = all::<TenantRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(|row| (row.tenant_id.into(), row.id.into())).collect())
    }

    /// Removes the events of responses that ended before `before`: the response has what they say. How many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge_events(&self, before: Millis) -> Result<u64> {
        let statement = sql(
            "DELETE FROM response_event e USING response r
             WHERE r.tenant_id = e.tenant_id AND r.id = e.response_id AND r.ended_at < $1",
            [instant(before)?.into()],
        );
        run(self.tx.conn(), statement).await
    }

    /// Removes responses whose time was over at `now`, with their events. How many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge(&self, now: Millis) -> Result<u64> {
        let statement = sql("DELETE FROM response WHERE expires_at < $1", [instant(now)?.into()]);
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }
}

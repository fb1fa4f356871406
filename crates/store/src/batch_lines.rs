//! The lines of batches that are worked off: what they ask, how often they were asked in vain, what became of them.

use crate::{
    batch_runs::{BatchRuns, OwnRow, number},
    chat_sql::{all, int, one, run, sql},
};
use contract::ids::{BatchId, RequestId};
use domain::Result;
use sea_orm::FromQueryResult;
use std::time::Duration;
use uuid::Uuid;

/// A request of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLine {
    /// Of the line in the input, counted from 1.
    pub number: u32,
    pub custom_id: String,
    /// JSON.
    pub body: String,
}

/// A request that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingLine {
    /// Of the line in the input, counted from 1.
    pub number: u32,
    /// JSON.
    pub body: String,
    pub vain: InVain,
    /// It is asked again only after so long.
    pub wait: Duration,
}

/// How often a request was asked in vain, on whichever node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InVain {
    /// Whoever computed it died, be it a worker or a whole node.
    pub breaks: u32,
    /// The model could not be had.
    pub absences: u32,
    /// A budget refused it.
    pub refusals: u32,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineEnd {
    pub request: RequestId,
    /// Of HTTP.
    pub status: u16,
    /// JSON.
    pub response: String,
}

/// A line with its end, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineResult {
    pub number: u32,
    pub custom_id: String,
    pub end: Option<LineEnd>,
}

#[derive(FromQueryResult)]
struct LineRow {
    number: i32,
    body: String,
    breaks: i32,
    absences: i32,
    refusals: i32,
    wait_ms: i64,
}

impl From<LineRow> for WaitingLine {
    fn from(row: LineRow) -> Self {
        let vain = InVain { breaks: number(row.breaks), absences: number(row.absences), refusals: number(row.refusals) };
        let wait = Duration::from_millis(u64::try_from(row.wait_ms).unwrap_or(0));
        Self { number: number(row.number), body: row.body, vain, wait }
    }
}

#[derive(FromQueryResult)]
struct ResultRow {
    number: i32,
    custom_id: String,
    request_id: Option<Uuid>,
    status: Option<i32>,
    response: Option<String>,
}

impl From<ResultRow> for LineResult {
    fn from(row: ResultRow) -> Self {
        let end = match (row.request_id, row.status, row.response) {
            (Some(request), Some(status), Some(response)) => {
                Some(LineEnd { request: request.into(), status: u16::try_from(status).unwrap_or(500), response })
            }
            _ => None,
        };
        Self { number: number(row.number), custom_id: row.custom_id, end }
    }
}

impl BatchRuns<'_> {
    /// Adds lines; `false` if the batch is no longer the caller's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_lines(&self, id: BatchId, lease: Uuid, lines: Vec<BatchLine>) -> Result<bool> {
        if !self.own(id, lease).await? {
            return Ok(false);
        }
        let wanted = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let (mut numbers, mut custom_ids, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            numbers.push(int(line.number));
            custom_ids.push(line.custom_id);
            bodies.push(line.body);
        }
        let statement = sql(
            "INSERT INTO batch_line (tenant_id, batch_id, number, custom_id, body)
             SELECT app_tenant(), b.id, l.number, l.custom_id, l.body
             FROM batch b, unnest($3::int[], $4::text[], $5::text[]) AS l (number, custom_id, body) WHERE b.id = $1 AND b.lease = $2",
            [id.0.into(), lease.into(), numbers.into(), custom_ids.into(), bodies.into()],
        );
        Ok(run(self.tx.conn(), statement).await? == wanted)
    }

    /// Lines after number `after` that have no end yet, at most `limit`, in order.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waiting(&self, id: BatchId, after: u32, limit: u32) -> Result<Vec<WaitingLine>> {
        let statement = sql(
            "SELECT number, body, breaks, absences, refusals,
               greatest(0, ceil(extract(epoch FROM coalesce(waits_until - now(), interval '0')) * 1000))::bigint AS wait_ms
             FROM batch_line WHERE batch_id = $1 AND status IS NULL AND number > $2 ORDER BY number LIMIT $3",
            [id.0.into(), int(after).into(), i64::from(limit).into()],
        );
        let rows = all::<LineRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(WaitingLine::from).collect())
    }

    /// A line is asked now: if the node dies over it, the next one knows. `false` if it has an end, or the batch is no longer
    /// the caller's. Nobody takes the batch while this is being written, so nobody's counts are written over.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ask_line(&self, id: BatchId, lease: Uuid, line: u32) -> Result<bool> {
        let statement = sql(
            "WITH mine AS (SELECT id FROM batch WHERE id = $1 AND lease = $3 AND ended_at IS NULL FOR SHARE)
             UPDATE batch_line SET asked = true, waits_until = NULL FROM mine
             WHERE batch_id = $1 AND number = $2 AND status IS NULL
             RETURNING true AS own, set_config('synchronous_commit', 'off', true)",
            [id.0.into(), int(line).into(), lease.into()],
        );
        Ok(one::<OwnRow>(self.tx.conn(), statement).await?.is_some_and(|row| row.own))
    }

    /// A line was asked in vain, and is asked again after `wait`. `false` if it has an end, or the batch is no longer the
    /// caller's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn put_off_line(&self, id: BatchId, lease: Uuid, line: u32, vain: InVain, wait: Duration) -> Result<bool> {
        let statement = sql(
            "WITH mine AS (SELECT id FROM batch WHERE id = $1 AND lease = $3 AND ended_at IS NULL FOR SHARE)
             UPDATE batch_line SET asked = false, breaks = $4, absences = $5, refusals = $6, waits_until = now() + make_interval(secs => $7)
             FROM mine WHERE batch_id = $1 AND number = $2 AND status IS NULL",
            [
                id.0.into(),
                int(line).into(),
                lease.into(),
                int(vain.breaks).into(),
                int(vain.absences).into(),
                int(vain.refusals).into(),
                wait.as_secs_f64().into(),
            ],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Stores a line's end and counts it. `false` if it has one already, or the batch is no longer the caller's: then
    /// the transaction must not be kept.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_line(&self, id: BatchId, lease: Uuid, line: u32, end: &LineEnd) -> Result<bool> {
        let completed = i32::from((200..300).contains(&end.status));
        let counted = sql(
            "UPDATE batch SET completed = completed + $3, failed = failed + $4 WHERE id = $1 AND lease = $2 AND ended_at IS NULL",
            [id.0.into(), lease.into(), completed.into(), (1 - completed).into()],
        );
        if run(self.tx.conn(), counted).await? == 0 {
            return Ok(false);
        }
        let stored = sql(
            "UPDATE batch_line SET request_id = $3, status = $4, response = $5, asked = false
             WHERE batch_id = $1 AND number = $2 AND status IS NULL",
            [id.0.into(), int(line).into(), end.request.0.into(), i32::from(end.status).into(), end.response.as_str().into()],
        );
        Ok(run(self.tx.conn(), stored).await? > 0)
    }

    /// Lines after number `after`, in order; with `all_lines` also those without an end. At most `limit`, and none behind
    /// those whose answers have `bytes` together.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn results(&self, id: BatchId, after: u32, limit: u32, bytes: i64, all_lines: bool) -> Result<Vec<LineResult>> {
        let statement = sql(
            "SELECT number, custom_id, request_id, status, response FROM (
               SELECT number, custom_id, request_id, status, response, coalesce(octet_length(response), 0) AS own,
                      sum(coalesce(octet_length(response), 0)) OVER (ORDER BY number) AS together
               FROM batch_line WHERE batch_id = $1 AND number > $2 AND ($4 OR status IS NOT NULL) ORDER BY number LIMIT $3
             ) AS result WHERE together - own < $5 ORDER BY number",
            [id.0.into(), int(after).into(), i64::from(limit).into(), all_lines.into(), bytes.into()],
        );
        let rows = all::<ResultRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(LineResult::from).collect())
    }
}

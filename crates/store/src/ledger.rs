//! Writes the ledger: events of any tenants, opened and settled together in one statement.

use crate::{
    chat_sql::{instant, int, sql},
    db::Db,
    error::{is_misplaced, is_rejection, map},
    usage::{NewUsage, Settlement},
};
use contract::{Millis, ids::UsageId};
use domain::{Amount, Error, Result};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Events come as JSON: one prepared statement for any number of them. What is opened and settled by the same call is
/// inserted settled. A person who is gone is not named: what was used stays. A row that somebody else holds (an account that is being deleted) is passed over: the others must not
/// wait for it. One that another statement is just inserting is not seen yet; it is busy, too. `$3` and `$4` are the first
/// and the last moment of opening: with them Postgres plans for the partitions of these days alone.
const WRITE: &str = "WITH wanted AS (
    SELECT * FROM jsonb_to_recordset($2) AS s(tenant_id uuid, id uuid, opened_at timestamptz, outcome text, prompt_tokens int,
           cached_tokens int, completion_tokens int, ttft_ms int, duration_ms int, settled_at timestamptz, model text, cost numeric)
  ), given AS (
    SELECT * FROM jsonb_to_recordset($1) AS o(tenant_id uuid, id uuid, user_id uuid, model text, purpose text, reserved_tokens int,
           request_id uuid, created_at timestamptz, account_id uuid, key_id uuid, team text, cost_center text, currency text,
           reserved_cost numeric, node_id uuid)
  ), opened AS (
    INSERT INTO usage_event (tenant_id, id, user_id, model, purpose, reserved_tokens, request_id, created_at, account_id, key_id,
                             team, cost_center, currency, reserved_cost, node_id, state, outcome, prompt_tokens, cached_tokens,
                             completion_tokens, ttft_ms, duration_ms, settled_at, cost)
    SELECT g.tenant_id, g.id, u.id, coalesce(s.model, g.model), g.purpose, g.reserved_tokens, g.request_id, g.created_at,
           g.account_id, g.key_id, g.team, g.cost_center, g.currency, g.reserved_cost, g.node_id,
           CASE WHEN s.id IS NULL THEN 'open' ELSE 'settled' END, s.outcome, coalesce(s.prompt_tokens, 0),
           coalesce(s.cached_tokens, 0), coalesce(s.completion_tokens, 0), s.ttft_ms, s.duration_ms, s.settled_at, coalesce(s.cost, 0)
    FROM given g
      LEFT JOIN app_user u ON u.tenant_id = g.tenant_id AND u.id = g.user_id
      LEFT JOIN wanted s ON s.tenant_id = g.tenant_id AND s.id = g.id AND s.opened_at = g.created_at
    ON CONFLICT (tenant_id, id, created_at) DO NOTHING
    RETURNING tenant_id, id, state
  ), free AS (
    SELECT e.tenant_id, e.id FROM usage_event e
      JOIN wanted s ON s.tenant_id = e.tenant_id AND s.id = e.id AND s.opened_at = e.created_at
    WHERE (e.state = 'open' OR e.outcome = 'swept') AND e.created_at BETWEEN $3 AND $4 FOR UPDATE OF e SKIP LOCKED
  ), settled AS (
    UPDATE usage_event e
    SET state = 'settled', outcome = s.outcome, prompt_tokens = s.prompt_tokens, cached_tokens = s.cached_tokens,
        completion_tokens = s.completion_tokens, ttft_ms = s.ttft_ms, duration_ms = s.duration_ms, settled_at = s.settled_at,
        model = coalesce(s.model, e.model), cost = s.cost
    FROM free f JOIN wanted s ON s.tenant_id = f.tenant_id AND s.id = f.id
    WHERE e.tenant_id = s.tenant_id AND e.id = s.id AND e.created_at = s.opened_at AND e.created_at BETWEEN $3 AND $4
    RETURNING e.tenant_id, e.id
  ), done AS (
    SELECT tenant_id, id FROM settled UNION SELECT tenant_id, id FROM opened WHERE state = 'settled'
  )
  SELECT s.id, d.id IS NOT NULL AS settled,
         d.id IS NULL AND CASE WHEN e.id IS NULL THEN g.id IS NOT NULL ELSE e.state = 'open' END AS busy,
         d.id IS NULL AND e.id IS NULL AND g.id IS NULL AS missing
  FROM wanted s
    LEFT JOIN done d ON d.tenant_id = s.tenant_id AND d.id = s.id
    LEFT JOIN given g ON g.tenant_id = s.tenant_id AND g.id = s.id
    LEFT JOIN usage_event e ON e.tenant_id = s.tenant_id AND e.id = s.id AND e.created_at = s.opened_at AND e.created_at BETWEEN $3 AND $4";

/// Days in one call that no partition was made for so far are few.
const MISPLACED_TRIES: u32 = 3;

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    Done,
    /// It was settled before, by another way out.
    Before,
    /// There is no such event.
    Missing,
    /// Somebody holds the row. Try again.
    Busy,
}

/// Why nothing was written.
#[derive(Debug)]
pub enum WriteError {
    /// An entry is at fault, and no repetition helps.
    Rejected(Error),
    /// The database does not take anything now.
    Failed(Error),
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(error) | WriteError::Failed(error) => error,
        }
    }
}

/// Something to be written. As JSON it keeps its meaning until another process writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    id: UsageId,
    /// When the event was opened: the day that it is in.
    opened_at: Millis,
    /// The event's row, or what of it changes.
    #[serde(flatten)]
    row: Row,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row {
    Open(Value),
    Settle(Value),
}

impl Entry {
    /// # Errors
    /// A time or a number that the database has no room for.
    pub fn open(new: &NewUsage) -> Result<Self> {
        Ok(Self { id: new.id, opened_at: new.created_at, row: Row::Open(opening(new)?) })
    }

    /// # Errors
    /// As [`Entry::open`].
    pub fn settle(with: &Settlement) -> Result<Self> {
        Ok(Self { id: with.id, opened_at: with.opened_at, row: Row::Settle(settling(with)?) })
    }

    /// The event.
    #[must_use]
    pub fn id(&self) -> UsageId {
        self.id
    }

    /// It opens the event.
    #[must_use]
    pub fn opens(&self) -> bool {
        matches!(self.row, Row::Open(_))
    }
}

impl Db {
    /// [`Db::write_entries`] of events and their ends.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn write_ledger(&self, open: &[&NewUsage], settle: &[&Settlement]) -> Result<HashMap<UsageId, Settling>> {
        let opened = open.iter().map(|new| Entry::open(new));
        let entries = opened.chain(settle.iter().map(|with| Entry::settle(with))).collect::<Result<Vec<Entry>>>()?;
        Ok(self.write_entries(&entries.iter().collect::<Vec<_>>()).await?)
    }

    /// Opens and settles events, all of them or none, but for those that are held by somebody else; an event may be opened
    /// and settled by the same call. What is open already stays as it is, so a call whose end was not heard can be repeated.
    /// Tells of each that was to be settled.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write_entries(&self, entries: &[&Entry]) -> Result<HashMap<UsageId, Settling>, WriteError> {
        let moments = || entries.iter().map(|entry| entry.opened_at);
        let Some((first, last)) = moments().min().zip(moments().max()) else { return Ok(HashMap::new()) };
        let (mut open, mut settle) = (Vec::new(), Vec::new());
        for entry in entries {
            match &entry.row {
                Row::Open(row) => open.push(row.clone()),
                Row::Settle(row) => settle.push(row.clone()),
            }
        }
        let (first, last) = (instant(first).map_err(WriteError::Rejected)?, instant(last).map_err(WriteError::Rejected)?);
        let statement = sql(WRITE, [Value::Array(open).into(), Value::Array(settle).into(), first.into(), last.into()]);
        let mut written = Written::find_by_statement(statement.clone()).all(self.system()).await;
        // Something was on its way into the rest of the ledger while a partition was made for its day: it has a place now.
        for _ in 0..MISPLACED_TRIES {
            if !written.as_ref().is_err_and(is_misplaced) {
                break;
            }
            written = Written::find_by_statement(statement.clone()).all(self.system()).await;
        }
        let written = written
            .map_err(|error| if is_rejection(&error) { WriteError::Rejected(map(error)) } else { WriteError::Failed(map(error)) })?;
        Ok(written.into_iter().map(|row| (UsageId(row.id), row.settling())).collect())
    }
}

fn opening(new: &NewUsage) -> Result<Value> {
    Ok(json!({
        "tenant_id": new.tenant.0, "id": new.id.0, "user_id": new.user.map(|user| user.0), "model": new.model,
        "purpose": new.purpose.name(), "reserved_tokens": int(new.reserved_tokens), "request_id": new.request.0,
        "created_at": moment(new.created_at)?, "account_id": new.program.map(|(account, _)| account.0),
        "key_id": new.program.map(|(_, key)| key.0), "team": new.team, "cost_center": new.cost_center,
        "currency": new.reserved.as_ref().map(|(currency, _)| currency.code()),
        // As text: a number of JSON may lose digits on its way.
        "reserved_cost": new.reserved.map_or(Amount::ZERO, |(_, amount)| amount).decimal().to_string(), "node_id": new.node.0,
    }))
}

fn settling(with: &Settlement) -> Result<Value> {
    Ok(json!({
        "tenant_id": with.tenant.0, "id": with.id.0, "opened_at": moment(with.opened_at)?, "outcome": with.outcome.name(),
        "prompt_tokens": int(with.prompt_tokens),
        "cached_tokens": int(with.cached_tokens.min(with.prompt_tokens)), "completion_tokens": int(with.completion_tokens),
        "ttft_ms": with.ttft_ms.map(int), "duration_ms": with.duration_ms.map(int), "settled_at": moment(with.at)?,
        "model": with.model, "cost": with.cost.decimal().to_string(),
    }))
}

fn moment(at: Millis) -> Result<String> {
    instant(at)?.format(&Rfc3339).map_err(domain::Error::internal)
}

#[derive(FromQueryResult)]
struct Written {
    id: Uuid,
    settled: bool,
    busy: bool,
    missing: bool,
}

impl Written {
    fn settling(&self) -> Settling {
        match self {
            Self { settled: true, .. } => Settling::Done,
            Self { busy: true, .. } => Settling::Busy,
            Self { missing: true, .. } => Settling::Missing,
            Self { .. } => Settling::Before,
        }
    }
}

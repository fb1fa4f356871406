//! The two statements that write the ledger, each for any number of events: every parameter is a column of theirs.
//!
//! An array that is bound has no NULL in it. What is not there is a nil id, an empty text or [`NONE`].

use crate::{
    chat_sql::sql,
    ledger::{Ending, Opening, Settling},
};
use sea_orm::{FromQueryResult, Statement, Value};
use time::OffsetDateTime;
use uuid::Uuid;

/// No number.
const NONE: i32 = -1;

/// What has an outcome is inserted settled. A person who is gone is not named: what was used stays. What is there already stays
/// as it is, and is not returned. `$24` is the nil id.
const INSERT: &str = "INSERT INTO usage_event (tenant_id, id, user_id, model, purpose, reserved_tokens, request_id, created_at, account_id,
                           key_id, team, cost_center, currency, reserved_cost, node_id, state, outcome, prompt_tokens, cached_tokens,
                           completion_tokens, ttft_ms, duration_ms, settled_at, cost)
  SELECT g.tenant_id, g.id,
         CASE WHEN g.user_id <> $24::uuid THEN (SELECT u.id FROM app_user u WHERE u.tenant_id = g.tenant_id AND u.id = g.user_id) END,
         g.model, g.purpose, g.reserved_tokens, g.request_id, g.created_at, nullif(g.account_id, $24::uuid), nullif(g.key_id, $24::uuid), g.team,
         g.cost_center, nullif(g.currency, ''), g.reserved_cost, g.node_id, CASE g.outcome WHEN '' THEN 'open' ELSE 'settled' END,
         nullif(g.outcome, ''), g.prompt_tokens, g.cached_tokens, g.completion_tokens, nullif(g.ttft_ms, -1),
         nullif(g.duration_ms, -1), CASE g.outcome WHEN '' THEN NULL ELSE g.settled_at END, g.cost
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::uuid[], $8::timestamptz[], $9::uuid[],
              $10::uuid[], $11::text[], $12::text[], $13::text[], ($14::text[])::numeric[], $15::uuid[], $16::text[], $17::int[],
              $18::int[], $19::int[], $20::int[], $21::int[], $22::timestamptz[], ($23::text[])::numeric[])
    AS g(tenant_id, id, user_id, model, purpose, reserved_tokens, request_id, created_at, account_id, key_id, team, cost_center,
         currency, reserved_cost, node_id, outcome, prompt_tokens, cached_tokens, completion_tokens, ttft_ms, duration_ms,
         settled_at, cost)
  ON CONFLICT (tenant_id, id, created_at) DO NOTHING
  RETURNING id";

/// A row that somebody else holds (an account that is being deleted) is passed over: the others must not wait for it. `$13` and
/// `$14` are the first and the last moment of opening: with them Postgres asks the partitions of these days alone. Each row is
/// looked up by its key: what else was opened between these moments is not read.
const UPDATE: &str = "WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[],
                         $10::timestamptz[], $11::text[], ($12::text[])::numeric[])
      AS s(tenant_id, id, opened_at, outcome, prompt_tokens, cached_tokens, completion_tokens, ttft_ms, duration_ms, settled_at,
           model, cost)
  ), free AS MATERIALIZED (
    SELECT s.tenant_id, s.id FROM wanted s CROSS JOIN LATERAL (
      SELECT FROM usage_event e
      WHERE e.tenant_id = s.tenant_id AND e.id = s.id AND e.created_at = s.opened_at AND e.created_at BETWEEN $13 AND $14
        AND (e.state = 'open' OR e.outcome = 'swept')
      LIMIT 1 FOR UPDATE OF e SKIP LOCKED) x
  ), settled AS (
    UPDATE usage_event e
    SET state = 'settled', outcome = s.outcome, prompt_tokens = s.prompt_tokens, cached_tokens = s.cached_tokens,
        completion_tokens = s.completion_tokens, ttft_ms = nullif(s.ttft_ms, -1), duration_ms = nullif(s.duration_ms, -1),
        settled_at = s.settled_at, model = coalesce(nullif(s.model, ''), e.model), cost = s.cost
    FROM free f JOIN wanted s USING (tenant_id, id)
    WHERE e.tenant_id = s.tenant_id AND e.id = s.id AND e.created_at = s.opened_at AND e.created_at BETWEEN $13 AND $14
    RETURNING e.tenant_id, e.id
  )
  SELECT s.id, d.id IS NOT NULL AS settled, e.state
  FROM wanted s LEFT JOIN settled d USING (tenant_id, id)
    LEFT JOIN LATERAL (
      SELECT e.state FROM usage_event e
      WHERE d.id IS NULL AND e.tenant_id = s.tenant_id AND e.id = s.id AND e.created_at = s.opened_at
        AND e.created_at BETWEEN $13 AND $14
      LIMIT 1) e ON true";

/// An event to be inserted, with its end where that is known already.
#[derive(Debug)]
pub(crate) struct New<'a> {
    pub row: &'a Opening,
    pub end: Option<&'a Ending>,
}

/// Inserts events; see [`Inserted`].
pub(crate) fn insert(new: &[New<'_>]) -> Statement {
    let number = |of: fn(&Ending) -> i32, without| column(new, |new| new.end.map_or(without, of));
    let values = [
        column(new, |new| new.row.tenant_id),
        column(new, |new| new.row.id),
        column(new, |new| new.row.user_id.unwrap_or_default()),
        // Another one may have answered than was asked for.
        column(new, |new| new.end.and_then(|end| end.model.as_ref()).unwrap_or(&new.row.model).clone()),
        column(new, |new| new.row.purpose.clone()),
        column(new, |new| new.row.reserved_tokens),
        column(new, |new| new.row.request_id),
        column(new, |new| new.row.created_at),
        column(new, |new| new.row.account_id.unwrap_or_default()),
        column(new, |new| new.row.key_id.unwrap_or_default()),
        column(new, |new| new.row.team.clone()),
        column(new, |new| new.row.cost_center.clone()),
        column(new, |new| new.row.currency.clone().unwrap_or_default()),
        column(new, |new| new.row.reserved_cost.clone()),
        column(new, |new| new.row.node_id),
        column(new, |new| new.end.map_or_else(String::new, |end| end.outcome.clone())),
        number(|end| end.prompt_tokens, 0),
        number(|end| end.cached_tokens, 0),
        number(|end| end.completion_tokens, 0),
        number(|end| end.ttft_ms.unwrap_or(NONE), NONE),
        number(|end| end.duration_ms.unwrap_or(NONE), NONE),
        column(new, |new| new.end.map_or(new.row.created_at, |end| end.settled_at)),
        column(new, |new| new.end.map_or_else(|| "0".to_owned(), |end| end.cost.clone())),
        Uuid::nil().into(),
    ];
    sql(INSERT, values)
}

/// Settles events that were opened between these moments, both included; see [`Written`].
pub(crate) fn update(ends: &[&Ending], first: OffsetDateTime, last: OffsetDateTime) -> Statement {
    let values = [
        column(ends, |end| end.tenant_id),
        column(ends, |end| end.id),
        column(ends, |end| end.opened_at),
        column(ends, |end| end.outcome.clone()),
        column(ends, |end| end.prompt_tokens),
        column(ends, |end| end.cached_tokens),
        column(ends, |end| end.completion_tokens),
        column(ends, |end| end.ttft_ms.unwrap_or(NONE)),
        column(ends, |end| end.duration_ms.unwrap_or(NONE)),
        column(ends, |end| end.settled_at),
        column(ends, |end| end.model.clone().unwrap_or_default()),
        column(ends, |end| end.cost.clone()),
        first.into(),
        last.into(),
    ];
    sql(UPDATE, values)
}

fn column<R, T>(rows: &[R], of: impl Fn(&R) -> T) -> Value
where
    Vec<T>: Into<Value>,
{
    rows.iter().map(of).collect::<Vec<T>>().into()
}

/// An event that was not there before.
#[derive(FromQueryResult)]
pub(crate) struct Inserted {
    pub id: Uuid,
}

/// An event that was to be settled.
#[derive(FromQueryResult)]
pub(crate) struct Written {
    pub id: Uuid,
    settled: bool,
    /// Where it is not settled now: how it stands, if it can be seen.
    state: Option<String>,
}

impl Written {
    /// What became of it. `opened`: it was opened before, by the same call.
    pub(crate) fn settling(&self, opened: bool) -> Settling {
        match self.state.as_deref() {
            _ if self.settled => Settling::Done,
            Some("open") => Settling::Busy,
            Some(_) => Settling::Before,
            None if opened => Settling::Busy,
            None => Settling::Missing,
        }
    }
}

//! Limits: requests and tokens a minute, and how much may run at the same time.

use crate::{
    chat_sql::{all, run, sql},
    db::Db,
    error::map,
    tx::SystemTx,
};
use contract::ids::{NodeId, RateLimitId, TenantId};
use domain::{Error, Result, quota::Level};
use sea_orm::{ConnectionTrait, FromQueryResult};
use std::time::Duration;
use uuid::Uuid;

/// A limit; at least one of the three is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub tenant: TenantId,
    pub id: RateLimitId,
    pub level: Level,
    /// An id, or the name of a team or cost centre; `None`: each one of the level has a limit of its own.
    pub subject: Option<String>,
    /// `None`: all models together.
    pub model: Option<String>,
    /// In a minute.
    pub requests: Option<u64>,
    /// In a minute.
    pub tokens: Option<u64>,
    /// At the same time.
    pub places: Option<u64>,
}

/// What is counted in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Requests,
    Tokens,
}

impl Unit {
    /// Its name in the database and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// What of a minute a node got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfMinute {
    /// Zero: the minute has not as much left as was needed.
    pub granted: u64,
    /// What others can still take.
    pub free: u64,
    pub ends_in: Duration,
}

impl Db {
    /// The limits of all tenants.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn rate_limits(&self) -> Result<Vec<RateLimit>> {
        let rows = Row::find_by_statement(sql(&select("TRUE"), [])).all(self.system()).await.map_err(map)?;
        rows.into_iter().map(RateLimit::try_from).collect()
    }

    /// Takes a part of the present minute that covers `need`. A minute begins with the first request after the last one.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn take_of_minute(&self, limit: &RateLimit, subject: &str, unit: Unit, most: u64, need: u64) -> Result<OfMinute> {
        let statement = sql(
            "SELECT granted, free, ends_in_ms FROM limit_take($1, $2, $3, $4, $5, $6)",
            [limit.tenant.0.into(), limit.id.0.into(), subject.into(), unit.name().into(), whole(most).into(), whole(need).into()],
        );
        let row = MinuteRow::find_by_statement(statement).one(self.system()).await.map_err(map)?;
        let row = row.ok_or_else(|| Error::internal("limit_take returned nothing"))?;
        Ok(OfMinute { granted: natural(row.granted), free: natural(row.free), ends_in: Duration::from_millis(natural(row.ends_in_ms)) })
    }

    /// Gives back a part of the minute that is over in so long; nothing if that is another one by now.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn give_back_of_minute(&self, limit: &RateLimit, subject: &str, unit: Unit, amount: u64, ends_in: Duration) -> Result<()> {
        let statement = sql(
            "UPDATE limit_minute SET taken = greatest(0, taken - $5)
             WHERE tenant_id = $1 AND limit_id = $2 AND subject = $3 AND unit = $4
               AND abs(extract(epoch FROM ends_at - clock_timestamp()) - $6) < 1",
            [
                limit.tenant.0.into(),
                limit.id.0.into(),
                subject.into(),
                unit.name().into(),
                whole(amount).into(),
                ends_in.as_secs_f64().into(),
            ],
        );
        self.system().execute_raw(statement).await.map_err(map)?;
        Ok(())
    }

    /// Says that a process has so many places, and takes more; 0 if none is free. Telling twice does no harm.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn take_places(&self, limit: &RateLimit, subject: &str, node: NodeId, has: u64, most: u64) -> Result<u64> {
        let statement = sql(
            "SELECT place_take($1, $2, $3, $4, $5, $6) AS granted",
            [limit.tenant.0.into(), limit.id.0.into(), subject.into(), node.0.into(), whole(has).into(), whole(most).into()],
        );
        let row = self.system().query_one_raw(statement).await.map_err(map)?;
        let row = row.ok_or_else(|| Error::internal("place_take returned nothing"))?;
        Ok(natural(row.try_get("", "granted").map_err(map)?))
    }

    /// Says that a process has so many places now; that also shows that it lives.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn hold_places(&self, limit: &RateLimit, subject: &str, node: NodeId, has: u64) -> Result<()> {
        let statement = sql(
            "INSERT INTO limit_place (tenant_id, limit_id, subject, node_id, held, seen_at) VALUES ($1, $2, $3, $4, $5, clock_timestamp())
             ON CONFLICT (tenant_id, limit_id, subject, node_id) DO UPDATE SET held = $5, seen_at = clock_timestamp()",
            [limit.tenant.0.into(), limit.id.0.into(), subject.into(), node.0.into(), whole(has).into()],
        );
        self.system().execute_raw(statement).await.map_err(map)?;
        Ok(())
    }

    /// Removes minutes that are over and places of processes that are gone.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn purge_rate_limits(&self) -> Result<()> {
        self.system()
            .execute_raw(sql("DELETE FROM limit_minute WHERE ends_at < clock_timestamp() - interval '1 minute'", []))
            .await
            .map_err(map)?;
        self.system()
            .execute_raw(sql("DELETE FROM limit_place WHERE seen_at < clock_timestamp() - interval '1 minute'", []))
            .await
            .map_err(map)?;
        Ok(())
    }
}

/// Limits, for whoever administers them.
#[derive(Debug)]
pub struct SystemRateLimits<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemRateLimits<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a limit.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn add(&self, limit: &RateLimit) -> Result<()> {
        let statement = sql(
            "INSERT INTO rate_limit (tenant_id, id, level, subject, model, requests, tokens, places) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                limit.tenant.0.into(),
                limit.id.0.into(),
                limit.level.name().into(),
                limit.subject.as_deref().into(),
                limit.model.as_deref().into(),
                limit.requests.map(whole).into(),
                limit.tokens.map(whole).into(),
                limit.places.map(whole).into(),
            ],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }

    /// Ends a limit.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn remove(&self, tenant: TenantId, limit: RateLimitId) -> Result<()> {
        let text = "UPDATE rate_limit SET removed_at = now() WHERE tenant_id = $1 AND id = $2 AND removed_at IS NULL";
        match self.tx.changed(run(self.tx.conn(), sql(text, [tenant.0.into(), limit.0.into()])).await?) {
            0 => Err(Error::not_found("limit")),
            _ => Ok(()),
        }
    }

    /// The limits of a tenant, oldest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<RateLimit>> {
        let rows: Vec<Row> = all(self.tx.conn(), sql(&select("tenant_id = $1"), [tenant.0.into()])).await?;
        rows.into_iter().map(RateLimit::try_from).collect()
    }
}

fn select(which: &str) -> String {
    format!(
        "SELECT tenant_id, id, level, subject, model, requests, tokens, places
         FROM rate_limit WHERE removed_at IS NULL AND {which} ORDER BY tenant_id, created_at, id"
    )
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: Uuid,
    id: Uuid,
    level: String,
    subject: Option<String>,
    model: Option<String>,
    requests: Option<i64>,
    tokens: Option<i64>,
    places: Option<i64>,
}

impl TryFrom<Row> for RateLimit {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: RateLimitId(row.id),
            level: row.level.parse()?,
            subject: row.subject,
            model: row.model,
            requests: row.requests.map(natural),
            tokens: row.tokens.map(natural),
            places: row.places.map(natural),
        })
    }
}

#[derive(FromQueryResult)]
struct MinuteRow {
    granted: i64,
    free: i64,
    ends_in_ms: i64,
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

//! The ledger: one event for each use of a model. Opened with a reservation before the model runs, settled
//! exactly once with the worker's own figures. [`crate::ledger`] writes it.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    ledger_days::{first_open, used},
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    ids::{ApiKeyId, NodeId, RequestId, ServiceAccountId, TenantId, UsageId, UserId},
    usage::{Money, Purpose, UsageRow},
};
use domain::{Amount, Currency, Error, Result};
use rust_decimal::Decimal;
use sea_orm::FromQueryResult;
use time::{Date, OffsetDateTime, macros::date};
use uuid::Uuid;

/// No use of a model is older, or younger.
pub(crate) const FIRST_DAY: Date = date!(1970 - 01 - 01);
pub(crate) const LAST_DAY: Date = date!(9999 - 01 - 01);

/// How a use of a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The model came to its end, or to the agreed length.
    Ok,
    /// The person pressed Stop.
    Cancelled,
    /// Nobody waited for it any more.
    Disconnected,
    /// The worker failed or went away.
    Failed,
    /// The process that held it died; settled by the sweeper.
    Swept,
    /// Told again from memory: no model computed anything.
    Cached,
}

impl Outcome {
    /// Its word in the ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Swept => "swept",
            Self::Cached => "cached",
        }
    }
}

/// An event to be opened.
#[derive(Clone, Debug)]
pub struct NewUsage {
    pub tenant: TenantId,
    pub id: UsageId,
    /// `None` for a program or a job.
    pub user: Option<UserId>,
    /// The program and its key.
    pub program: Option<(ServiceAccountId, ApiKeyId)>,
    /// The name of the model in the catalogue.
    pub model: String,
    pub purpose: Purpose,
    /// Prompt plus longest possible answer.
    pub reserved_tokens: u32,
    /// Who else it is counted for; empty: nobody.
    pub team: String,
    pub cost_center: String,
    /// What is reserved, if the model has a price.
    pub reserved: Option<(Currency, Amount)>,
    /// Who sees to it.
    pub node: NodeId,
    pub request: RequestId,
    pub created_at: Millis,
}

/// The final figures, from the worker's own counters.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub tenant: TenantId,
    pub id: UsageId,
    /// The event's `created_at`: says where it lies.
    pub opened_at: Millis,
    pub outcome: Outcome,
    /// The model that answered, where that is another one than was asked for; `None` leaves it.
    pub model: Option<String>,
    pub prompt_tokens: u32,
    /// Part of `prompt_tokens` that came out of the prefix cache; never more than it.
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    /// In the currency of the reservation.
    pub cost: Amount,
    /// From dispatch to the first token; `None` if there was none.
    pub ttft_ms: Option<u32>,
    /// From dispatch to the end; `None` if it was never dispatched.
    pub duration_ms: Option<u32>,
    pub at: Millis,
}

/// Whose uses a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Person(UserId),
    /// Of all keys that the service account has and had, whatever they asked for.
    Program(ServiceAccountId),
}

impl Whose {
    /// The ledger's column and what stands in it.
    fn key(self) -> (&'static str, Uuid) {
        match self {
            Self::Person(user) => ("user_id", user.0),
            Self::Program(account) => ("account_id", account.0),
        }
    }
}

impl From<UserId> for Whose {
    fn from(user: UserId) -> Self {
        Self::Person(user)
    }
}

/// The ledger of one tenant.
#[derive(Debug)]
pub struct Usage<'a> {
    tx: &'a TenantTx,
}

impl<'a> Usage<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// What somebody used, by calendar day (UTC) of the request, model and purpose; both days included,
    /// newest day first. Open events are not in it: their figures are not known yet.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn report(&self, whose: impl Into<Whose>, from: Date, to: Date) -> Result<Vec<UsageRow>> {
        let (column, id) = whose.into().key();
        let statement = sql(
            &format!(
                "SELECT to_char(u.day, 'YYYY-MM-DD') AS day, u.model, u.purpose, sum(u.requests)::bigint AS requests,
                        sum(u.prompt_tokens)::bigint AS prompt_tokens, sum(u.cached_tokens)::bigint AS cached_tokens,
                        sum(u.completion_tokens)::bigint AS completion_tokens, u.currency, sum(u.cost) AS cost
                 FROM {}
                 GROUP BY u.day, u.model, u.purpose, u.currency
                 ORDER BY u.day DESC, u.model, u.purpose, u.currency",
                used(&format!("u.tenant_id = $1 AND u.{column} = $4"))
            ),
            [self.tx.tenant().0.into(), midnight(from).into(), (midnight(to) + time::Duration::DAY).into(), id.into()],
        );
        let rows: Vec<ReportRow> = all(self.tx.conn(), statement).await?;
        rows.into_iter().map(UsageRow::try_from).collect()
    }

    /// When somebody's newest figure was settled; `None` without any.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn as_of(&self, whose: impl Into<Whose>) -> Result<Option<Millis>> {
        let (column, id) = whose.into().key();
        let statement = sql(
            &format!(
                "SELECT greatest(
                   (SELECT max(settled_at) FROM usage_daily WHERE tenant_id = $1 AND {column} = $2),
                   (SELECT max(settled_at) FROM usage_event WHERE tenant_id = $1 AND {column} = $2 AND created_at >= $3)) AS settled_at"
            ),
            [self.tx.tenant().0.into(), id.into(), first_open(self.tx.conn()).await?.into()],
        );
        let newest: Option<Newest> = one(self.tx.conn(), statement).await?;
        Ok(newest.and_then(|newest| newest.settled_at).map(millis))
    }
}

/// What one payer used of a model in a day; people are taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub day: Date,
    pub account_id: Option<ServiceAccountId>,
    /// The service account's name; `None`: people.
    pub account: Option<String>,
    pub team: String,
    pub cost_center: String,
    pub model: String,
    pub purpose: String,
    pub requests: i64,
    /// Of these, those that were answered from memory.
    pub from_cache: i64,
    pub prompt_tokens: i64,
    pub cached_tokens: i64,
    pub completion_tokens: i64,
    /// `None` where the model had no price.
    pub cost: Option<(Currency, Amount)>,
}

/// The ledger across tenants.
#[derive(Debug)]
pub struct SystemUsage<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemUsage<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// The settled uses of a tenant by day (UTC, both included) of the request, payer, model, purpose and currency.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn charges(&self, tenant: TenantId, from: Date, to: Date) -> Result<Vec<Charge>> {
        let statement = sql(
            &format!(
                "SELECT u.day, u.account_id, a.name AS account, u.team, u.cost_center, u.model, u.purpose,
                        sum(u.requests)::bigint AS requests, sum(u.from_cache)::bigint AS from_cache,
                        sum(u.prompt_tokens)::bigint AS prompt_tokens, sum(u.cached_tokens)::bigint AS cached_tokens,
                        sum(u.completion_tokens)::bigint AS completion_tokens, u.currency, sum(u.cost) AS cost
                 FROM {} LEFT JOIN service_account a ON a.tenant_id = u.tenant_id AND a.id = u.account_id
                 GROUP BY 1, 2, 3, 4, 5, 6, 7, u.currency
                 ORDER BY 1, 3, 4, 5, 6, 7, u.currency",
                used("u.tenant_id = $1")
            ),
            [tenant.0.into(), midnight(from).into(), (midnight(to) + time::Duration::DAY).into()],
        );
        let rows: Vec<ChargeRow> = all(self.tx.conn(), statement).await?;
        rows.into_iter().map(Charge::try_from).collect()
    }

    /// Settles, as swept and with the figures they have, the events that were opened before `before` and never
    /// settled. Returns how many.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn settle_stale(&self, before: Millis, at: Millis) -> Result<u64> {
        let statement = sql(
            "UPDATE usage_event SET state = 'settled', outcome = $1, settled_at = $2
             WHERE state = 'open' AND created_at < $3 AND created_at >= $4",
            // Nothing of a closed day is open.
            [Outcome::Swept.name().into(), instant(at)?.into(), instant(before)?.into(), first_open(self.tx.conn()).await?.into()],
        );
        Ok(self.tx.changed(run(self.tx.conn(), statement).await?))
    }
}

#[derive(FromQueryResult)]
struct Newest {
    settled_at: Option<OffsetDateTime>,
}

#[derive(FromQueryResult)]
struct ReportRow {
    day: String,
    model: String,
    purpose: String,
    requests: i64,
    prompt_tokens: i64,
    cached_tokens: i64,
    completion_tokens: i64,
    currency: Option<String>,
    cost: Decimal,
}

impl TryFrom<ReportRow> for UsageRow {
    type Error = Error;

    fn try_from(row: ReportRow) -> Result<Self> {
        Ok(Self {
            day: row.day,
            model: row.model,
            purpose: purpose(&row.purpose)?,
            requests: row.requests,
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            completion_tokens: row.completion_tokens,
            cost: row.currency.map(|currency| money(currency, row.cost)).transpose()?,
        })
    }
}

/// For the browser.
pub(crate) fn money(currency: String, amount: Decimal) -> Result<Money> {
    Ok(Money { currency, pico: Amount::from_stored(amount)?.pico() })
}

/// When a day of the ledger begins.
pub(crate) fn midnight(day: Date) -> OffsetDateTime {
    day.midnight().assume_utc()
}

#[derive(FromQueryResult)]
struct ChargeRow {
    day: Date,
    account_id: Option<Uuid>,
    account: Option<String>,
    team: String,
    cost_center: String,
    model: String,
    purpose: String,
    requests: i64,
    from_cache: i64,
    prompt_tokens: i64,
    cached_tokens: i64,
    completion_tokens: i64,
    currency: Option<String>,
    cost: Decimal,
}

impl TryFrom<ChargeRow> for Charge {
    type Error = Error;

    fn try_from(row: ChargeRow) -> Result<Self> {
        let cost = row.currency.map(|currency| Ok::<_, Error>((currency.parse()?, Amount::from_stored(row.cost)?))).transpose()?;
        Ok(Self {
            day: row.day,
            account_id: row.account_id.map(ServiceAccountId),
            account: row.account,
            team: row.team,
            cost_center: row.cost_center,
            model: row.model,
            purpose: row.purpose,
            requests: row.requests,
            from_cache: row.from_cache,
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            completion_tokens: row.completion_tokens,
            cost,
        })
    }
}

fn purpose(text: &str) -> Result<Purpose> {
    let known = Purpose::ALL.into_iter().find(|purpose| purpose.name() == text);
    known.ok_or_else(|| Error::internal(format!("unknown purpose {text:?} in the ledger")))
}

//! Responses: answers to programs that can be asked for again. What they say is opaque here; how they come about is in
//! [`crate::response_runs`].

use crate::{
    chat_sql::{all, instant, int, millis, one, run, sql},
    tenants,
    tx::TenantTx,
};
use contract::{
    Millis,
    chat::AnswerStats,
    ids::{ResponseId, ServiceAccountId},
    problem::Problem,
    usage::Money,
};
use domain::{DataClass, Error, Result};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// Waits for a model.
    Queued,
    InProgress,
    Completed,
    Failed,
    Cancelled,
    /// It reached the length that was asked for, or a content filter cut it off.
    Incomplete,
}

impl ResponseStatus {
    const ALL: [Self; 6] = [Self::Queued, Self::InProgress, Self::Completed, Self::Failed, Self::Cancelled, Self::Incomplete];

    /// Its name in the database and for clients.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Incomplete => "incomplete",
        }
    }

    /// Nothing more will be said.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }
}

/// A response to be stored, running.
#[derive(Clone, Debug)]
pub struct NewResponse {
    pub id: ResponseId,
    pub account: ServiceAccountId,
    pub previous: Option<ResponseId>,
    pub model: String,
    pub status: ResponseStatus,
    pub instructions: Option<String>,
    /// Parameters of the request, to be shown again.
    pub echo: Value,
    pub input: Value,
    pub metadata: Value,
    /// Of what was asked, and of all before it.
    pub class: DataClass,
    pub background: bool,
    /// The server process that makes it.
    pub node: Uuid,
    pub created_at: Millis,
    pub expires_at: Millis,
}

/// A response as stored, without its input.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    pub id: ResponseId,
    pub previous: Option<ResponseId>,
    /// The one that answered; before the end, what it was stored with.
    pub model: String,
    pub status: ResponseStatus,
    pub instructions: Option<String>,
    pub echo: Value,
    /// Empty until the end.
    pub output: Value,
    pub stats: Option<AnswerStats>,
    /// `None` where there was no price.
    pub cost: Option<Money>,
    pub problem: Option<Problem>,
    pub metadata: Value,
    pub background: bool,
    pub created_at: Millis,
    pub ended_at: Option<Millis>,
}

/// What the column `usage` holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Used {
    #[serde(flatten)]
    pub stats: AnswerStats,
    /// Older versions did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
}

/// One response of a chain.
#[derive(Clone, Debug)]
pub struct Link {
    pub previous: Option<ResponseId>,
    pub status: ResponseStatus,
    pub input: Value,
    pub output: Value,
    pub class: DataClass,
    /// Of both.
    pub bytes: i64,
}

/// How much of a chain is read.
#[derive(Clone, Copy, Debug)]
pub struct ChainLimits {
    pub responses: u32,
    /// A response is read if those after it have fewer bytes than this.
    pub bytes: i64,
}

/// Repository of responses. Every query names the owner; a foreign row does not exist.
#[derive(Debug)]
pub struct Responses<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    previous_id: Option<Uuid>,
    model: String,
    status: String,
    instructions: Option<String>,
    echo: Value,
    output: Value,
    usage: Option<Value>,
    error: Option<Value>,
    metadata: Value,
    background: bool,
    created_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for StoredResponse {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let used: Option<Used> = row.usage.map(serde_json::from_value).transpose().map_err(Error::internal)?;
        let (stats, cost) = used.map_or((None, None), |used| (Some(used.stats), used.cost));
        Ok(Self {
            id: row.id.into(),
            previous: row.previous_id.map(Into::into),
            model: row.model,
            status: status(&row.status)?,
            instructions: row.instructions,
            echo: row.echo,
            output: row.output,
            stats,
            cost,
            problem: row.error.map(serde_json::from_value).transpose().map_err(Error::internal)?,
            metadata: row.metadata,
            background: row.background,
            created_at: millis(row.created_at),
            ended_at: row.ended_at.map(millis),
        })
    }
}

#[derive(FromQueryResult)]
struct StatusRow {
    status: String,
}

#[derive(FromQueryResult)]
struct InputRow {
    input: Value,
}

#[derive(FromQueryResult)]
struct OutputRow {
    id: Uuid,
    output: Value,
    data_class: String,
}

#[derive(FromQueryResult)]
struct LinkRow {
    previous_id: Option<Uuid>,
    status: String,
    input: Value,
    output: Value,
    data_class: String,
    bytes: i64,
}

impl TryFrom<LinkRow> for Link {
    type Error = Error;

    fn try_from(row: LinkRow) -> Result<Self> {
        let LinkRow { previous_id, input, output, bytes, .. } = row;
        let class = tenants::class(&row.data_class)?;
        Ok(Self { previous: previous_id.map(Into::into), status: status(&row.status)?, input, output, class, bytes })
    }
}

impl<'a> Responses<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores a response.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn insert(&self, new: &NewResponse) -> Result<()> {
        let statement = sql(
            "INSERT INTO response (tenant_id, id, account_id, previous_id, model, status, instructions, echo, input, bytes, metadata,
                                   background, node, created_at, expires_at, data_class)
             VALUES (app_tenant(), $1, $2, $3, $4, $5, $6, $7, $8, octet_length($8::jsonb::text), $9, $10, $11, $12, $13, $14)",
            [
                new.id.0.into(),
                new.account.0.into(),
                new.previous.map(|id| id.0).into(),
                new.model.as_str().into(),
                new.status.name().into(),
                new.instructions.as_deref().into(),
                new.echo.clone().into(),
                new.input.clone().into(),
                new.metadata.clone().into(),
                new.background.into(),
                new.node.into(),
                instant(new.created_at)?.into(),
                instant(new.expires_at)?.into(),
                new.class.name().into(),
            ],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// One response of the account.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn get(&self, account: ServiceAccountId, id: ResponseId) -> Result<Option<StoredResponse>> {
        let statement = sql(
            "SELECT id, previous_id, model, status, instructions, echo, output, usage, error, metadata, background, created_at, ended_at
             FROM response WHERE id = $1 AND account_id = $2",
            [id.0.into(), account.0.into()],
        );
        one::<Row>(self.tx.conn(), statement).await?.map(StoredResponse::try_from).transpose()
    }

    /// How far the account's response is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn status(&self, account: ServiceAccountId, id: ResponseId) -> Result<Option<ResponseStatus>> {
        let statement = sql("SELECT status FROM response WHERE id = $1 AND account_id = $2", [id.0.into(), account.0.into()]);
        one::<StatusRow>(self.tx.conn(), statement).await?.map(|row| status(&row.status)).transpose()
    }

    /// What the account's response was asked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn input(&self, account: ServiceAccountId, id: ResponseId) -> Result<Option<Value>> {
        let statement = sql("SELECT input FROM response WHERE id = $1 AND account_id = $2", [id.0.into(), account.0.into()]);
        Ok(one::<InputRow>(self.tx.conn(), statement).await?.map(|row| row.input))
    }

    /// What some of the account's responses said, and of which class that is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn outputs(&self, account: ServiceAccountId, ids: &[ResponseId]) -> Result<Vec<(ResponseId, Value, DataClass)>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let text = "SELECT id, output, data_class FROM response WHERE account_id = $1 AND id = ANY($2)";
        let rows = all::<OutputRow>(self.tx.conn(), sql(text, [account.0.into(), ids.into()])).await?;
        rows.into_iter().map(|row| Ok((row.id.into(), row.output, tenants::class(&row.data_class)?))).collect()
    }

    /// The account's response with those before it, oldest first: within the limits, and until one is missing.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn chain(&self, account: ServiceAccountId, id: ResponseId, limits: ChainLimits) -> Result<Vec<Link>> {
        let statement = sql(
            "WITH RECURSIVE chain AS (
               SELECT r.id, r.previous_id, 1 AS n, r.bytes AS total FROM response r WHERE r.id = $1 AND r.account_id = $2
               UNION ALL
               SELECT r.id, r.previous_id, c.n + 1, c.total + r.bytes
               FROM chain c JOIN response r ON r.id = c.previous_id AND r.account_id = $2 WHERE c.n < $3 AND c.total < $4
             )
             SELECT r.previous_id, r.status, r.input, r.output, r.data_class, r.bytes
             FROM chain c JOIN response r ON r.id = c.id ORDER BY c.n DESC",
            [id.0.into(), account.0.into(), int(limits.responses).into(), limits.bytes.into()],
        );
        let rows = all::<LinkRow>(self.tx.conn(), statement).await?;
        rows.into_iter().map(Link::try_from).collect()
    }

    /// Asks the node that makes the response to end it; `false` if the account has no such unfinished response.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn request_cancel(&self, account: ServiceAccountId, id: ResponseId) -> Result<bool> {
        let statement = sql(
            "UPDATE response SET cancel_requested_at = coalesce(cancel_requested_at, now())
             WHERE id = $1 AND account_id = $2 AND ended_at IS NULL",
            [id.0.into(), account.0.into()],
        );
        let asked = run(self.tx.conn(), statement).await? > 0;
        if asked {
            self.tx.notify(id).await?;
        }
        Ok(asked)
    }

    /// Removes a response with its events; `false` if the account has no such response.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete(&self, account: ServiceAccountId, id: ResponseId) -> Result<bool> {
        let statement = sql("DELETE FROM response WHERE id = $1 AND account_id = $2", [id.0.into(), account.0.into()]);
        Ok(run(self.tx.conn(), statement).await? > 0)
    }
}

fn status(text: &str) -> Result<ResponseStatus> {
    let known = ResponseStatus::ALL.into_iter().find(|status| status.name() == text);
    known.ok_or_else(|| Error::internal(format!("unknown status {text:?} of a response in the database")))
}

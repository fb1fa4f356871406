//! Turns (the making of one answer) and their events.
//!
//! Heartbeats and ends are stamped with the database's clock, because several nodes compare them.

use crate::{
    chat_sql::{all, one, run, sql, status, status_text},
    tx::{SystemTx, TenantTx},
};
use contract::{
    chat::{MessageStatus, TurnEvent},
    ids::{ConversationId, MessageId, TenantId, TurnId, UserId},
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use uuid::Uuid;

/// A turn to be stored, running.
#[derive(Clone, Copy, Debug)]
pub struct NewTurn {
    pub id: TurnId,
    pub conversation: ConversationId,
    pub message: MessageId,
    pub user: UserId,
    /// The server process that runs it.
    pub node: Uuid,
}

/// How far a turn is, for those who follow it.
#[derive(Clone, Copy, Debug)]
pub struct TurnState {
    pub message: MessageId,
    pub status: MessageStatus,
    /// It ended so long ago that no event follows any more.
    pub settled: bool,
}

/// What became of a batch of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored.
    Stored,
    /// Stored, and somebody asked for an end.
    CancelRequested,
    /// Not stored: the turn is no longer this node's, or gone with its conversation.
    Lost,
}

/// A turn whose node is gone.
#[derive(Clone, Copy, Debug)]
pub struct DeadTurn {
    pub conversation: ConversationId,
    pub message: MessageId,
    pub user: UserId,
}

/// Seconds after its end in which a turn may still get events (the title, the end itself).
const SETTLES_AFTER_SECONDS: i32 = 15;

/// Repository of turns.
#[derive(Debug)]
pub struct Turns<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct StateRow {
    message_id: Uuid,
    status: String,
    settled: bool,
}

#[derive(FromQueryResult)]
struct EventRow {
    seq: i32,
    payload: serde_json::Value,
}

#[derive(FromQueryResult)]
struct CancelRow {
    cancelled: bool,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

#[derive(FromQueryResult)]
struct DeadRow {
    conversation_id: Uuid,
    message_id: Uuid,
    user_id: Uuid,
}

impl<'a> Turns<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores a running turn.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the conversation has a running turn already; those of the database.
    pub async fn insert(&self, new: NewTurn) -> Result<()> {
        let statement = sql(
            "INSERT INTO turn (tenant_id, id, conversation_id, message_id, user_id, node, status)
             VALUES (app_tenant(), $1, $2, $3, $4, $5, 'running')",
            [new.id.0.into(), new.conversation.0.into(), new.message.0.into(), new.user.0.into(), new.node.into()],
        );
        match run(self.tx.conn(), statement).await {
            Ok(_) => Ok(()),
            // The only unique index that can be hit: ids are fresh.
            Err(Error::Conflict { .. }) => {
                Err(Error::conflict("turn_running", "An answer is still being made in this chat. Stop it or wait for its end."))
            }
            Err(other) => Err(other),
        }
    }

    /// How far the user's turn is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn state(&self, user: UserId, id: TurnId) -> Result<Option<TurnState>> {
        let statement = sql(
            "SELECT message_id, status, coalesce(ended_at < now() - make_interval(secs => $3), false) AS settled
             FROM turn WHERE id = $1 AND user_id = $2",
            [id.0.into(), user.0.into(), f64::from(SETTLES_AFTER_SECONDS).into()],
        );
        let Some(row) = one::<StateRow>(self.tx.conn(), statement).await? else {
            return Ok(None);
        };
        Ok(Some(TurnState { message: row.message_id.into(), status: status(&row.status)?, settled: row.settled }))
    }

    /// Events after number `after`, at most `limit`, in order. The caller has checked the owner with [`Self::state`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn events(&self, id: TurnId, after: i32, limit: u32) -> Result<Vec<(i32, TurnEvent)>> {
        let statement = sql(
            "SELECT seq, payload FROM turn_event WHERE turn_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            [id.0.into(), after.into(), i64::from(limit).into()],
        );
        let rows = all::<EventRow>(self.tx.conn(), statement).await?;
        rows.into_iter().map(|row| Ok((row.seq, serde_json::from_value(row.payload).map_err(Error::internal)?))).collect()
    }

    /// Appends events from number `first` on and wakes those who follow, in one statement. `after_end` allows it
    /// for a turn that has ended (its title, its end); without it the transaction does not wait for the disk.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn append(&self, id: TurnId, node: Uuid, first: i32, events: &[TurnEvent], after_end: bool) -> Result<Appended> {
        let payload = serde_json::to_value(events).map_err(Error::internal)?;
        let statement = sql(
            "WITH t AS (SELECT id, cancel_requested_at FROM turn WHERE id = $1 AND node = $2 AND (status = 'running' OR $5)),
                  stored AS (
                    INSERT INTO turn_event (tenant_id, turn_id, seq, payload)
                    SELECT app_tenant(), t.id, $3 + e.n::int - 1, e.payload FROM t, jsonb_array_elements($4) WITH ORDINALITY AS e (payload, n)
                  )
             SELECT t.cancel_requested_at IS NOT NULL AS cancelled, pg_notify('turn', t.id::text),
                    CASE WHEN $5 THEN '' ELSE set_config('synchronous_commit', 'off', true) END
             FROM t",
            [id.0.into(), node.into(), first.into(), payload.into(), after_end.into()],
        );
        Ok(match one::<CancelRow>(self.tx.conn(), statement).await? {
            Some(CancelRow { cancelled: false }) => Appended::Stored,
            Some(CancelRow { cancelled: true }) => Appended::CancelRequested,
            None => Appended::Lost,
        })
    }

    /// Gives up durability of this transaction in a crash of Postgres in exchange for not waiting for the disk.
    /// For signs of life only (event batches do so themselves): the end of a turn is always waited for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn without_waiting_for_disk(&self) -> Result<()> {
        run(self.tx.conn(), sql("SELECT set_config('synchronous_commit', 'off', true)", [])).await.map(drop)
    }

    /// Says that the node is alive; `None` if the turn is no longer its own, else whether an end was asked for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn heartbeat(&self, id: TurnId, node: Uuid) -> Result<Option<bool>> {
        let statement = sql(
            "UPDATE turn SET heartbeat_at = now() WHERE id = $1 AND node = $2 AND status = 'running'
             RETURNING cancel_requested_at IS NOT NULL AS cancelled",
            [id.0.into(), node.into()],
        );
        Ok(one::<CancelRow>(self.tx.conn(), statement).await?.map(|row| row.cancelled))
    }

    /// Ends a running turn; `false` if it had ended before.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finish(&self, id: TurnId, end: MessageStatus) -> Result<bool> {
        let statement = sql(
            "UPDATE turn SET status = $2, ended_at = now() WHERE id = $1 AND status = 'running'",
            [id.0.into(), status_text(end).into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Asks the node that runs the turn to end it; `false` if the user has no such running turn.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn request_cancel(&self, user: UserId, id: TurnId) -> Result<bool> {
        let statement = sql(
            "WITH t AS (
               UPDATE turn SET cancel_requested_at = coalesce(cancel_requested_at, now())
               WHERE id = $1 AND user_id = $2 AND status = 'running' RETURNING id
             )
             SELECT t.id, pg_notify('turn', t.id::text) FROM t",
            [id.0.into(), user.0.into()],
        );
        Ok(one::<IdRow>(self.tx.conn(), statement).await?.is_some())
    }

    /// The user's running turns.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn running(&self, user: UserId) -> Result<Vec<TurnId>> {
        let statement = sql("SELECT id FROM turn WHERE user_id = $1 AND status = 'running'", [user.0.into()]);
        Ok(all::<IdRow>(self.tx.conn(), statement).await?.into_iter().map(|row| row.id.into()).collect())
    }

    /// Takes a turn over whose node has given no sign of life for `seconds`; `None` if it has, or somebody else was
    /// quicker.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock_dead(&self, id: TurnId, seconds: u32) -> Result<Option<DeadTurn>> {
        let statement = sql(
            "SELECT conversation_id, message_id, user_id FROM turn
             WHERE id = $1 AND status = 'running' AND heartbeat_at < now() - make_interval(secs => $2) FOR UPDATE SKIP LOCKED",
            [id.0.into(), f64::from(seconds).into()],
        );
        let row = one::<DeadRow>(self.tx.conn(), statement).await?;
        Ok(row.map(|row| DeadTurn { conversation: row.conversation_id.into(), message: row.message_id.into(), user: row.user_id.into() }))
    }

    /// Appends the last event of a turn that was taken over with [`Self::lock_dead`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn append_last(&self, id: TurnId, event: &TurnEvent) -> Result<()> {
        let statement = sql(
            "INSERT INTO turn_event (tenant_id, turn_id, seq, payload)
             SELECT app_tenant(), $1, coalesce((SELECT max(seq) FROM turn_event WHERE turn_id = $1), 0) + 1, $2",
            [id.0.into(), serde_json::to_value(event).map_err(Error::internal)?.into()],
        );
        run(self.tx.conn(), statement).await?;
        run(self.tx.conn(), sql("SELECT pg_notify('turn', $1::uuid::text)", [id.0.into()])).await.map(drop)
    }
}

/// Turns of all tenants, for the jobs. The system login cannot read what the events say.
#[derive(Debug)]
pub struct SystemTurns<'a> {
    tx: &'a SystemTx,
}

#[derive(FromQueryResult)]
struct TenantRow {
    tenant_id: Uuid,
    id: Uuid,
}

impl<'a> SystemTurns<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Running turns whose node has given no sign of life for `seconds`, the oldest first, at most 100.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn dead(&self, seconds: u32) -> Result<Vec<(TenantId, TurnId)>> {
        let statement = sql(
            "SELECT tenant_id, id FROM turn WHERE status = 'running' AND heartbeat_at < now() - make_interval(secs => $1)
             ORDER BY heartbeat_at LIMIT 100",
            [f64::from(seconds).into()],
        );
        let rows = all::<TenantRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(|row| (row.tenant_id.into(), row.id.into())).collect())
    }

    /// Removes the events of turns that ended more than `seconds` ago: the message has their text. How many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge_events(&self, seconds: u32) -> Result<u64> {
        let statement = sql(
            "DELETE FROM turn_event e USING turn t
             WHERE t.tenant_id = e.tenant_id AND t.id = e.turn_id AND t.ended_at < now() - make_interval(secs => $1)",
            [f64::from(seconds).into()],
        );
        run(self.tx.conn(), statement).await
    }
}

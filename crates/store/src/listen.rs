//! News of turns and responses between replicas, by Postgres `NOTIFY`.
//!
//! The payload is an id and nothing else: notifications pass row-level security by. One connection listens
//! for the whole process; its news are handed to all subscriptions. Whoever is told looks into the database with
//! their own rights.

use crate::{
    db::Db,
    error::{map, map_sqlx},
    tx::{SystemTx, TenantTx},
};
use domain::Result;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sqlx::postgres::PgListener;
use std::{fmt, time::Duration};
use tokio::{
    sync::{OnceCell, broadcast},
    task::AbortHandle,
};
use uuid::Uuid;

/// Named after its first use, so that servers of two versions hear each other. Ids of different kinds never meet.
const CHANNEL: &str = "turn";

/// News that may wait for a slow subscription before it is told to look anyway.
const BACKLOG: usize = 1024;

/// Pause before the listener connects again.
const RECONNECT: Duration = Duration::from_secs(1);

/// This turn or response has news, or (`None`) every one may have: some news were lost.
type News = Option<Uuid>;

impl Db {
    /// Follows a turn or a response, beginning now. Subscribe first and read its events second, and nothing is missed.
    ///
    /// # Errors
    /// [`domain::Error::Unavailable`] when the listening connection cannot be made.
    pub async fn subscribe(&self, id: impl Into<Uuid>) -> Result<Subscription> {
        let id = id.into();
        let receiver = self.listener().subscribe().await?;
        Ok(Subscription { id, receiver })
    }

    /// Tells all replicas that a turn or a response has news, at once and outside of any transaction.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn notify(&self, id: impl Into<Uuid>) -> Result<()> {
        self.tenant().execute_raw(notification(id.into())).await.map_err(map)?;
        Ok(())
    }
}

impl TenantTx {
    /// Tells all replicas that a turn or a response has news, when this transaction is committed.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn notify(&self, id: impl Into<Uuid>) -> Result<()> {
        self.conn().execute_raw(notification(id.into())).await.map_err(map)?;
        Ok(())
    }
}

impl SystemTx {
    /// As [`TenantTx::notify`].
    ///
    /// # Errors
    /// As for any statement.
    pub async fn notify(&self, id: impl Into<Uuid>) -> Result<()> {
        self.conn().execute_raw(notification(id.into())).await.map_err(map)?;
        Ok(())
    }
}

fn notification(id: Uuid) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, "SELECT pg_notify($1, $2)", [CHANNEL.into(), id.to_string().into()])
}

/// The news of one turn or response.
#[derive(Debug)]
pub struct Subscription {
    id: Uuid,
    receiver: broadcast::Receiver<News>,
}

impl Subscription {
    /// Waits until there may be news. May wake without any (after a lost connection); several news may be
    /// told as one. `false` when the database is being closed: nothing will come any more.
    pub async fn changed(&mut self) -> bool {
        loop {
            match self.receiver.recv().await {
                Ok(Some(id)) if id != self.id => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return true,
                Err(broadcast::error::RecvError::Closed) => return false,
            }
        }
    }
}

/// The process's one listening connection, made when first needed.
pub(crate) struct Listener {
    url: String,
    running: OnceCell<Running>,
}

struct Running {
    // The task owns the sender: when it ends, all subscriptions learn of it.
    news: broadcast::WeakSender<News>,
    task: AbortHandle,
}

impl Listener {
    pub(crate) fn new(url: String) -> Self {
        Self { url, running: OnceCell::new() }
    }

    async fn subscribe(&self) -> Result<broadcast::Receiver<News>> {
        let running = self.running.get_or_try_init(|| start(&self.url)).await?;
        let news = running.news.upgrade().ok_or(domain::Error::unavailable("database", None))?;
        Ok(news.subscribe())
    }

    /// Ends the listening; all subscriptions end with it.
    pub(crate) fn stop(&self) {
        if let Some(running) = self.running.get() {
            running.task.abort();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("Listener").field("running", &self.running.initialized()).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "one task for the life of the process, ended by `Listener::stop`")]
async fn start(url: &str) -> Result<Running> {
    let mut connection = PgListener::connect(url).await.map_err(map_sqlx)?;
    connection.listen(CHANNEL).await.map_err(map_sqlx)?;
    let (sender, _) = broadcast::channel(BACKLOG);
    let news = sender.downgrade();
    let task = tokio::spawn(listen(connection, sender)).abort_handle();
    Ok(Running { news, task })
}

async fn listen(mut connection: PgListener, news: broadcast::Sender<News>) {
    loop {
        let item = match connection.try_recv().await {
            Ok(Some(notification)) => match notification.payload().parse() {
                Ok(id) => Some(id),
                // Not ours: somebody else uses the channel's name.
                Err(_) => continue,
            },
            // The connection was lost and is back; what was told meanwhile is lost.
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "the listening connection failed");
                tokio::time::sleep(RECONNECT).await;
                None
            }
        };
        // Without subscriptions nobody misses it.
        drop(news.send(item));
    }
}

//! What a node holds in memory of things that any node may change.
//!
//! Instead of asking for each request, a node asks once a second whether the topic's number changed (triggers count it),
//! and reads everything anew only if it did.

use crate::{chat_sql::sql, db::Db, error::map};
use domain::{Error, Result};
use sea_orm::ConnectionTrait;
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};

/// What is known is relied on this long while the database does not answer.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

/// After a question without an answer the next one waits so long.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Things whose changes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Service accounts and their keys, and the classes of tenants' data.
    Keys,
    /// Prices, budgets and limits, and what tenants weigh.
    Quotas,
    /// What tenants want to be kept from models and from answers.
    Guardrails,
    /// Which tenants have answers kept.
    ResponseCache,
    /// Keys of upstreams.
    UpstreamCredentials,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Quotas => "quotas",
            Self::Guardrails => "guardrails",
            Self::ResponseCache => "response_cache",
            Self::UpstreamCredentials => "upstream_credentials",
        }
    }
}

/// See the module.
pub struct Watched<T> {
    topic: Topic,
    known: RwLock<Option<Known<T>>>,
    /// Whoever holds it asks the database; when that last failed.
    asking: Mutex<Option<Instant>>,
    /// This node has just changed something.
    doubted: AtomicBool,
}

struct Known<T> {
    number: i64,
    value: Arc<T>,
    /// When the number was last found unchanged.
    seen: Instant,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self { number: self.number, value: self.value.clone(), seen: self.seen }
    }
}

impl<T> Watched<T> {
    #[must_use]
    pub fn new(topic: Topic) -> Self {
        Self { topic, known: RwLock::new(None), asking: Mutex::new(None), doubted: AtomicBool::new(false) }
    }

    /// What was read last, however old.
    #[must_use]
    pub fn last(&self) -> Option<Arc<T>> {
        self.known().map(|known| known.value)
    }

    /// This node has just changed something: the next one who asks shall read it.
    pub fn doubt(&self) {
        self.doubted.store(true, Release);
    }

    /// What the database said at most so long ago; `read` reads it anew, and is given what was known before.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database does not answer and what is known is too old to rely on; else what
    /// `read` says.
    pub async fn not_older_than<R>(&self, age: Duration, db: &Db, read: impl FnOnce(Option<Arc<T>>) -> R + Send) -> Result<Arc<T>>
    where
        R: Future<Output = Result<T>> + Send,
    {
        let fresh = |known: &Known<T>| known.seen.elapsed() <= age && !self.doubted.load(Acquire);
        if let Some(known) = self.known().filter(fresh) {
            return Ok(known.value);
        }
        let mut failed = self.asking.lock().await;
        let before = self.known();
        // Somebody else may have asked while this call waited for its turn.
        if let Some(known) = before.clone().filter(fresh) {
            return Ok(known.value);
        }
        // Doubts that come from now on are about what is read now.
        let doubted = self.doubted.swap(false, AcqRel);
        // A database that does not answer is asked by one caller at a time and not by each: the others must not queue up.
        let error = match *failed {
            Some(at) if at.elapsed() < AFTER_FAILURE => Error::unavailable("database", Some(1)),
            _ => match self.look(db, before.as_ref(), read).await {
                Ok(known) => {
                    *failed = None;
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
                    return Ok(known.value);
                }
                Err(error) => {
                    self.doubted.fetch_or(doubted, Release);
                    *failed = Some(Instant::now());
                    tracing::warn!(%error, topic = self.topic.name(), "could not be read anew");
                    error
                }
            },
        };
        before.filter(|known| known.seen.elapsed() < TRUSTED_FOR).map(|known| known.value).ok_or(error)
    }

    async fn look<R>(&self, db: &Db, before: Option<&Known<T>>, read: impl FnOnce(Option<Arc<T>>) -> R + Send) -> Result<Known<T>>
    where
        R: Future<Output = Result<T>> + Send,
    {
        let seen = Instant::now();
        // The number first: what changes between the two questions is asked for again.
        let number = db.version(self.topic).await?;
        match before {
            Some(before) if before.number == number => Ok(Known { seen, ..before.clone() }),
            before => Ok(Known { number, value: Arc::new(read(before.map(|before| before.value.clone())).await?), seen }),
        }
    }

    fn known(&self) -> Option<Known<T>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Db {
    async fn version(&self, topic: Topic) -> Result<i64> {
        let statement = sql("SELECT number FROM version WHERE topic = $1", [topic.name().into()]);
        let row = self.system().query_one_raw(statement).await.map_err(map)?;
        row.ok_or_else(|| Error::internal(format!("there is no version of {}", topic.name())))?.try_get("", "number").map_err(map)
    }
}

//! Numbered events for those who follow: from a table, then as they come.

use super::hub::Numbered;
use domain::{Error, Result};
use futures::{Stream, stream};
use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};
use store::{Db, listen::Subscription};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// Rows of one look into the table.
pub(crate) const ROWS: u32 = 500;
/// A look into the table without any news, in case one got lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// Pause after the database failed.
const PAUSE: Duration = Duration::from_secs(1);
/// After this many failures in a row the stream ends; whoever follows connects again.
const FAILURES: u32 = 30;

/// Where the events of one turn or response are kept.
pub(crate) trait Log: Send + Sync + 'static {
    type Event: Clone + Send + 'static;

    /// What there is beyond event number `after`; for what will get no more, what is missing is made up.
    /// [`Error::NotFound`] if it is gone, or somebody else's.
    fn look(&self, after: i32) -> impl Future<Output = Result<Look<Self::Event>>> + Send;

    /// No event follows this one.
    fn is_last(event: &Self::Event) -> bool;
}

/// What a look brought.
pub(crate) struct Look<E> {
    /// At most [`ROWS`], unless they were made up.
    pub events: Vec<Numbered<E>>,
    /// There will be no others.
    pub over: bool,
}

/// What is followed, as a stream.
pub(crate) type Followed<E> = Pin<Box<dyn Stream<Item = Numbered<E>> + Send + 'static>>;

/// One who follows.
struct Follower<L: Log> {
    log: L,
    /// Number of the last event handed on.
    last: i32,
    ready: VecDeque<Numbered<L::Event>>,
    /// Events of this process, if it is made here.
    live: Option<broadcast::Receiver<Numbered<L::Event>>>,
    /// News from all processes.
    news: Option<Subscription>,
    failures: u32,
    /// The table has more rows than the last look brought.
    more: bool,
    over: bool,
}

/// News from all processes; without any, one looks now and then.
pub(crate) async fn news(db: &Db, id: impl Into<Uuid>) -> Option<Subscription> {
    match db.subscribe(id).await {
        Ok(news) => Some(news),
        Err(error) => {
            tracing::warn!(%error, "no news from other nodes; looking now and then instead");
            None
        }
    }
}

/// Follows from after event number `after`, up to the last event. `live` and `news` are older than this call: nothing
/// can slip through between them and the table.
///
/// # Errors
/// Those of the first look.
pub(crate) async fn follow<L: Log>(
    log: L,
    live: Option<broadcast::Receiver<Numbered<L::Event>>>,
    news: Option<Subscription>,
    after: i32,
) -> Result<Followed<L::Event>> {
    let mut follower = Follower { log, last: after.max(0), ready: VecDeque::new(), live, news, failures: 0, more: false, over: false };
    follower.look().await?;
    Ok(Box::pin(stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    })))
}

impl<L: Log> Follower<L> {
    async fn next(&mut self) -> Option<Numbered<L::Event>> {
        loop {
            if let Some((seq, event)) = self.ready.pop_front() {
                self.last = seq;
                self.over = self.over || L::is_last(&event);
                return Some((seq, event));
            }
            if self.over || self.failures > FAILURES {
                return None;
            }
            if !self.more
                && let Some(event) = self.wait().await
            {
                self.ready.push_back(event);
                continue;
            }
            match self.look().await {
                Ok(()) => self.failures = 0,
                // It was deleted meanwhile.
                Err(Error::NotFound { .. }) => return None,
                Err(error) => {
                    tracing::warn!(%error, "events could not be read; trying again");
                    self.failures += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for the next event of this process, or (`None`) for a reason to look into the table.
    async fn wait(&mut self) -> Option<Numbered<L::Event>> {
        loop {
            let told = match (&mut self.live, &mut self.news) {
                (Some(live), _) => timeout(LOOK_ANYWAY, live.recv()).await.ok(),
                (None, Some(news)) => {
                    if let Ok(false) = timeout(LOOK_ANYWAY, news.changed()).await {
                        self.news = None;
                    }
                    None
                }
                (None, None) => {
                    sleep(PAUSE).await;
                    None
                }
            };
            match told {
                None => return None,
                Some(Ok((seq, _))) if seq <= self.last => {}
                Some(Ok((seq, event))) if seq == self.last + 1 => return Some((seq, event)),
                // A gap: the table has what is missing.
                Some(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => return None,
                Some(Err(broadcast::error::RecvError::Closed)) => {
                    self.live = None;
                    return None;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let look = self.log.look(self.last).await?;
        self.more = look.events.len() >= usize::try_from(ROWS).unwrap_or(usize::MAX);
        self.over = self.over || look.over;
        self.ready.extend(look.events);
        Ok(())
    }
}

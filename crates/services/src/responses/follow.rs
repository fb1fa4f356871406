//! A response's events for those who follow: from the table, then as they come.
//!
//! The same way as a turn's ([`crate::running::follow`]), over the same channel of news. A follower always begins with
//! the first event: what clients see, and how it is numbered, is made from all of them.

use super::{ResponseEnd, ResponseEvent, not_found, view::Response};
use crate::{
    running::{
        follow::{self, Log, Look, ROWS},
        hub::Numbered,
    },
    shared::Shared,
};
use contract::ids::{ResponseId, ServiceAccountId};
use domain::{Actor, Error, Result};
use futures::{Stream, StreamExt, stream};
use std::{pin::Pin, sync::Arc};
use store::TenantTx;
use tokio_util::sync::DropGuard;

/// What a model says; ends after [`ResponseEvent::End`], or before if that cannot be had.
pub type ResponseEvents = Pin<Box<dyn Stream<Item = ResponseEvent> + Send + 'static>>;

/// The events of a stored response.
struct ResponseLog {
    shared: Arc<Shared>,
    actor: Actor,
    account: ServiceAccountId,
    id: ResponseId,
}

/// Follows a stored response from its first event on.
///
/// # Errors
/// [`Error::NotFound`] if the account has no such response.
pub(crate) async fn follow(shared: Arc<Shared>, actor: Actor, account: ServiceAccountId, id: ResponseId) -> Result<ResponseEvents> {
    let live = shared.responses.follow(id);
    let news = follow::news(&shared.db, id).await;
    let events = follow::follow(ResponseLog { shared, actor, account, id }, live, news, 0).await?;
    Ok(Box::pin(events.map(|(_, event)| event)))
}

/// The same events; dropped, they set the guard off.
pub(crate) fn guarded(events: ResponseEvents, guard: Option<DropGuard>) -> ResponseEvents {
    Box::pin(stream::unfold((events, guard), |(mut events, guard)| async move {
        let event = events.next().await?;
        Some((event, (events, guard)))
    }))
}

/// Events of the table, after number `after`.
pub(crate) async fn read(tx: &TenantTx, id: ResponseId, after: i32, limit: u32) -> Result<Vec<Numbered<ResponseEvent>>> {
    let rows = tx.response_runs().events(id, after, limit).await?;
    rows.into_iter().map(|(seq, payload)| Ok((seq, serde_json::from_value(payload).map_err(Error::internal)?))).collect()
}

impl Log for ResponseLog {
    type Event = ResponseEvent;

    async fn look(&self, after: i32) -> Result<Look<ResponseEvent>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        // The status first: whoever sees the end here also sees the events that came with it.
        let status = tx.responses().status(self.account, self.id).await?.ok_or(not_found())?;
        let events = read(&tx, self.id, after, ROWS).await?;
        let over = events.is_empty() && status.is_over();
        // Purged, or never written. If that happened in the middle, whoever follows has to begin again.
        let made_up = over && after == 0;
        let events = if made_up { self.made_up(&tx).await? } else { events };
        tx.commit().await?;
        Ok(Look { events, over })
    }

    fn is_last(event: &ResponseEvent) -> bool {
        matches!(event, ResponseEvent::End(_))
    }
}

impl ResponseLog {
    /// The events of a response that has ended, from what it says.
    async fn made_up(&self, tx: &TenantTx) -> Result<Vec<Numbered<ResponseEvent>>> {
        let response: Response = tx.responses().get(self.account, self.id).await?.ok_or(not_found())?.try_into()?;
        let Response { status, output, stats, cost, problem, created_at, ended_at, .. } = response;
        let end = ResponseEnd { status, stats, cost, problem, at: ended_at.unwrap_or(created_at) };
        let said = ResponseEvent::of(output);
        let events = [ResponseEvent::Started].into_iter().chain(said).chain([ResponseEvent::End(end)]);
        Ok((1..).zip(events).collect())
    }
}

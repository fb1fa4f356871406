//! What joins a job to whoever waits for it.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use worker_protocol::Event;

/// The way out for events, and the wish for an end.
#[derive(Clone)]
pub struct Link {
    pub events: UnboundedSender<Event>,
    /// Told by the pool, which still listens.
    pub cancelled: CancellationToken,
}

impl Link {
    /// For what tells nothing and cannot be cancelled.
    pub fn nowhere() -> Self {
        Self { events: unbounded_channel().0, cancelled: CancellationToken::new() }
    }

    /// Nobody wants it any more: the pool said so, or stopped listening.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled() || self.events.is_closed()
    }

    /// Tells; without effect if nobody listens, which is looked at before each step.
    pub fn send(&self, event: Event) {
        drop(self.events.send(event));
    }
}

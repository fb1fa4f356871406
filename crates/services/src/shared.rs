//! What all services of a process share.

use crate::{
    responses::{self, ResponseEvent},
    running::hub::Hub,
    turns::{self, temporary::Registry},
};
use contract::{
    Millis,
    chat::TurnEvent,
    ids::{ResponseId, TurnId},
};
use domain::{Clock, Error, Result};
use identity::Identity;
use inference::Inference;
use std::sync::Arc;
use store::Db;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// See the module.
pub(crate) struct Shared {
    pub db: Db,
    pub inference: Inference,
    pub identity: Identity,
    pub clock: Arc<dyn Clock>,
    /// This process, in the tables `turn` and `response`.
    pub node: Uuid,
    /// The turns that run in this process.
    pub hub: Hub<TurnId, turns::Owner, TurnEvent>,
    /// The responses that are made in this process.
    pub responses: Hub<ResponseId, responses::Owner, ResponseEvent>,
    /// Temporary turns; they live nowhere else.
    pub temporary: Registry,
    /// Every background task of a request.
    pub tracker: TaskTracker,
    /// The process is about to end.
    pub shutdown: CancellationToken,
}

impl Shared {
    pub(crate) fn new(db: Db, inference: Inference, identity: Identity, clock: Arc<dyn Clock>) -> Self {
        Self {
            db,
            node: inference.node().0,
            inference,
            identity,
            hub: Hub::default(),
            responses: Hub::default(),
            temporary: Registry::new(clock.clone()),
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            clock,
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    pub(crate) fn refuse_while_ending(&self) -> Result<()> {
        if self.shutdown.is_cancelled() {
            return Err(Error::unavailable("server", Some(5)));
        }
        Ok(())
    }
}

//! The end of a use where there is no journal, or it cannot be written.

use super::{Figures, quotas::Hold, writer::Writer};
use contract::ids::RequestId;
use domain::Amount;
use std::time::Duration;
use store::ledger::{Entry, Settling, WriteError};
use tokio::time::{Instant, sleep};

/// So long it is tried to settle one use before it is left to the sweeper, which knows no figures. Less than the sweeper
/// waits.
const SETTLED_WITHIN: Duration = Duration::from_secs(55 * 60);
/// Pause after the first failed attempt; doubles each time, up to the longest.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_SETTLE_PAUSE: Duration = Duration::from_secs(10);

/// A use that is over, and whose end is in no journal.
pub(super) struct Unsettled {
    pub writer: Writer,
    pub entry: Entry,
    pub request: RequestId,
    pub figures: Figures,
    pub cost: Amount,
    pub hold: Hold,
}

impl Unsettled {
    /// Settles it in the ledger, again and again while the database does not answer; what still fails is the sweeper's.
    pub(super) async fn write(self) {
        let Self { writer, entry, request, figures, cost, hold } = self;
        let (began, mut pause, mut failed, id) = (Instant::now(), SETTLE_PAUSE, false, entry.id());
        loop {
            match writer.write(entry.clone()).await {
                Ok(Settling::Done) => return hold.settle(cost, figures.tokens()),
                // An earlier attempt may have come through and only its answer got lost.
                Ok(_) if failed => return hold.settle(cost, figures.tokens()),
                Ok(_) => {
                    tracing::warn!(usage = %id, ?figures, "a use was settled by somebody else first");
                    return;
                }
                Err(WriteError::Rejected(error)) => {
                    tracing::error!(usage = %id, %request, ?figures, %error, "a use cannot be settled; the sweeper will");
                    return;
                }
                Err(WriteError::Failed(error)) if began.elapsed() > SETTLED_WITHIN => {
                    tracing::error!(usage = %id, %request, ?figures, %error, "a use could not be settled; the sweeper will");
                    return;
                }
                Err(WriteError::Failed(error)) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(usage = %id, %request, ?figures, %error, "a use could not be settled; trying again");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_SETTLE_PAUSE);
                }
            }
        }
    }
}

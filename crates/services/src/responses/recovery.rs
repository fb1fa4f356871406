//! Responses whose process is gone: what their models said is kept, their end is stored as a failure.

use super::{
    ResponseEnd, ResponseEvent, ResponseStatus,
    event::restarted,
    follow::read,
    making::{finished, storable},
};
use crate::{running::DEAD_AFTER_SECONDS, shared::Shared};
use contract::ids::{RequestId, ResponseId, TenantId};
use domain::{Actor, Result};
use store::Reason;
use uuid::Uuid;

/// Ends the responses of nodes that are gone. How many.
///
/// # Errors
/// Those of the database when it looks for them; a response that cannot be ended is logged and left for the next time.
pub(crate) async fn recover(shared: &Shared) -> Result<u32> {
    let tx = shared.db.begin_system("response recovery", Reason::Sweep).await?;
    let dead = tx.responses().dead(DEAD_AFTER_SECONDS).await?;
    tx.commit().await?;
    let mut recovered = 0;
    for (tenant, response) in dead {
        match end(shared, tenant, response).await {
            Ok(true) => recovered += 1,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, %response, "a response whose process is gone could not be ended"),
        }
    }
    if recovered > 0 {
        tracing::warn!(recovered, "responses of processes that are gone were ended");
    }
    Ok(recovered)
}

/// Ends one response with all that its events hold; `false` if it needs none of it any more.
async fn end(shared: &Shared, tenant: TenantId, id: ResponseId) -> Result<bool> {
    let actor = Actor::system("response recovery", tenant, RequestId(Uuid::now_v7()));
    let tx = shared.db.begin(&actor).await?;
    let Some(cancelled) = tx.response_runs().lock_dead(id, DEAD_AFTER_SECONDS).await? else {
        return Ok(false);
    };
    let mut items = Vec::new();
    for (_, event) in read(&tx, id, 0, u32::MAX).await? {
        event.add_to(&mut items);
    }
    let (status, problem) = if cancelled { (ResponseStatus::Cancelled, None) } else { (ResponseStatus::Failed, Some(restarted())) };
    let end = ResponseEnd { status, stats: None, cost: None, problem, at: shared.now() };
    tx.response_runs().finish(id, &finished(&items, &end)?).await?;
    tx.response_runs().append_last(id, storable(&ResponseEvent::End(end))?).await?;
    tx.commit().await?;
    Ok(true)
}

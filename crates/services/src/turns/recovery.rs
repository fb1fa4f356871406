//! Turns whose process is gone: their text is saved, their end is stored as an interruption.

use super::answer::SERVER_RESTARTED;
use crate::{running::DEAD_AFTER_SECONDS, shared::Shared};
use contract::{
    chat::{MessageStatus, TurnEvent},
    ids::{RequestId, TenantId, TurnId},
};
use domain::{Actor, Result};
use store::{Reason, messages::AnswerEnd};
use uuid::Uuid;

/// Interrupts the turns of nodes that are gone. How many.
///
/// # Errors
/// Those of the database when it looks for them; a turn that cannot be ended is logged and left for the next time.
pub(crate) async fn recover(shared: &Shared) -> Result<u32> {
    let tx = shared.db.begin_system("turn recovery", Reason::Sweep).await?;
    let dead = tx.turns().dead(DEAD_AFTER_SECONDS).await?;
    tx.commit().await?;
    let mut recovered = 0;
    for (tenant, turn) in dead {
        match interrupt(shared, tenant, turn).await {
            Ok(true) => recovered += 1,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, %turn, "a turn whose process is gone could not be ended"),
        }
    }
    if recovered > 0 {
        tracing::warn!(recovered, "turns of processes that are gone were interrupted");
    }
    Ok(recovered)
}

/// Ends one turn with all the text that its events hold; `false` if it needs none of it any more.
async fn interrupt(shared: &Shared, tenant: TenantId, turn: TurnId) -> Result<bool> {
    let actor = Actor::system("turn recovery", tenant, RequestId(Uuid::now_v7()));
    let tx = shared.db.begin(&actor).await?;
    let Some(dead) = tx.turns().lock_dead(turn, DEAD_AFTER_SECONDS).await? else {
        return Ok(false);
    };
    let mut text = tx.messages().running_text(dead.message).await?.unwrap_or_default();
    for (_, event) in tx.turns().events(turn, 0, u32::MAX).await? {
        apply(&mut text, &event);
    }
    let end = AnswerEnd { status: MessageStatus::Interrupted, error: Some(SERVER_RESTARTED.into()), stats: None, warnings: Vec::new() };
    tx.messages().finish(dead.message, &text, &end).await?;
    tx.turns().finish(turn, MessageStatus::Interrupted).await?;
    tx.conversations().touch(dead.user, dead.conversation, shared.now()).await?;
    let last =
        TurnEvent::End { status: MessageStatus::Interrupted, error: Some(SERVER_RESTARTED.into()), stats: None, warnings: Vec::new() };
    tx.turns().append_last(turn, &last).await?;
    tx.commit().await?;
    Ok(true)
}

/// Puts an event's text where it belongs, unless the answer has it already.
fn apply(text: &mut String, event: &TurnEvent) {
    let TurnEvent::Text { at, text: piece } = event else { return };
    let at = usize::try_from(*at).unwrap_or(usize::MAX);
    let Some(known) = text.len().checked_sub(at) else { return };
    if let Some(new) = piece.get(known..) {
        text.push_str(new);
    }
}

#[cfg(test)]
mod tests {
    use super::apply;
    use contract::chat::TurnEvent;

    #[test]
    fn text_that_the_answer_has_is_not_doubled() {
        let mut text = String::from("häl");
        for (at, piece) in [(0, "hä"), (3, "lf"), (9, "gap"), (5, "te")] {
            apply(&mut text, &TurnEvent::Text { at, text: piece.into() });
        }
        assert_eq!(text, "hälfte");
    }
}

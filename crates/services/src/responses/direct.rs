//! Responses whose client hears the model itself: nothing is in between, and nothing is stored meanwhile.

use super::{
    event::{ResponseEnd, ResponseEvent, Speech},
    follow::ResponseEvents,
    item::Item,
};
use crate::{
    running::runner::{Draft, Over},
    shared::Shared,
};
use domain::{Error, Result};
use futures::stream;
use inference::{Generation, Output};
use std::{collections::VecDeque, sync::Arc};

/// Waits for the end.
///
/// # Errors
/// The model's.
pub(crate) async fn collect(shared: &Shared, generation: &mut Generation) -> Result<(Vec<Item>, ResponseEnd)> {
    let mut speech = Speech::default();
    while let Some(output) = generation.next().await {
        match output {
            Output::End(mut ended) => {
                if let Some(error) = ended.error.take() {
                    return Err(error);
                }
                let Over { draft, why, stats } = Over::of(speech, Some(*ended), None);
                return Ok((draft.items, ResponseEnd::of(why, stats, generation.cost(), shared.now())));
            }
            output => speech.take(output),
        }
    }
    Err(Error::internal("a generation ended without an end"))
}

/// What the model says, as it says it. Dropped before the end, it cancels.
pub(crate) fn events(shared: Arc<Shared>, generation: Generation) -> ResponseEvents {
    let start = Hearing { shared, generation, speech: Speech::default(), ready: VecDeque::new() };
    Box::pin(stream::unfold(start, |mut hearing| async move {
        let event = hearing.next().await?;
        Some((event, hearing))
    }))
}

struct Hearing {
    shared: Arc<Shared>,
    generation: Generation,
    speech: Speech,
    ready: VecDeque<ResponseEvent>,
}

impl Hearing {
    async fn next(&mut self) -> Option<ResponseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.generation.next().await? {
                Output::End(ended) => {
                    let Over { why, stats, .. } = Over::of((), Some(*ended), None);
                    let cost = self.generation.cost();
                    return Some(ResponseEvent::End(ResponseEnd::of(why, stats, cost, self.shared.now())));
                }
                output => {
                    self.speech.take(output);
                    self.speech.batch();
                    self.ready.extend(self.speech.stored());
                }
            }
        }
    }
}

//! The door of the funnel: every use of a model comes through [`Inference::admit`].

use crate::{
    Inference,
    catalogue::ModelConfig,
    drive::Driver,
    generation::Generation,
    meter::{self, Reservation},
};
use contract::{model::Sampling, usage::Purpose};
use domain::{Actor, Error, Result};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use worker_protocol::{ChatMessage, ChatRole, Generate};

/// What somebody wants from a model.
#[derive(Clone, Debug)]
pub struct Request {
    pub purpose: Purpose,
    /// `None` takes the catalogue's default.
    pub model: Option<String>,
    /// Oldest first; never empty.
    pub messages: Vec<ChatMessage>,
    /// The last message is an unfinished answer that the completion goes on from.
    pub continue_last: bool,
    pub sampling: Sampling,
    /// Nothing of it may outlive the worker's memory, as for temporary chats.
    pub transient: bool,
}

impl Inference {
    /// Runs the stages and starts the completion. Returns once the use is written into the ledger; waiting
    /// for a worker is part of the [`Generation`], whose end says so if none came.
    ///
    /// The completion belongs to a driver of its own: dropping the future of this call, like dropping the
    /// generation, ends it as *disconnected*, settled.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model that is not granted, [`Error::Invalid`] for a request that makes no
    /// sense, [`Error::Unavailable`] if the use cannot be metered or the process is shutting down.
    pub async fn admit(&self, actor: &Actor, request: Request) -> Result<Generation> {
        if self.inner.tracker.is_closed() {
            return Err(Error::unavailable("model", Some(meter::RETRY_AFTER_S)));
        }
        let model = self.inner.catalogue.grant(actor, request.model.as_deref(), request.purpose)?.clone();
        check(&request)?;
        let (tell, told) = oneshot::channel();
        // Spawned before the ledger is touched: a caller that goes away between the two must not leave an
        // open use behind.
        self.inner.tracker.spawn(self.clone().start(actor.clone(), model, request, tell));
        told.await.unwrap_or_else(|_| Err(Error::internal("the admission task ended without a result")))
    }

    async fn start(self, actor: Actor, model: ModelConfig, request: Request, tell: oneshot::Sender<Result<Generation>>) {
        let reservation = Reservation::of(&model, &request);
        let ticket = match self.inner.meter.open(actor, reservation).await {
            Ok(ticket) => ticket,
            Err(error) => {
                // The caller may be gone, and then nobody wants to know.
                let _ = tell.send(Err(error));
                return;
            }
        };
        let cancel = CancellationToken::new();
        let (generation, outputs) = Generation::new(ticket.id(), model.id.clone(), cancel.clone());
        let generate = Generate {
            id: ticket.id().0,
            model: model.id,
            partition: ticket.partition(),
            tenant: ticket.tenant(),
            transient: request.transient,
            messages: request.messages,
            continue_last: request.continue_last,
            sampling: request.sampling,
            ..Generate::default()
        };
        // If the caller is gone, the generation is dropped here and the driver sees that at once.
        let _ = tell.send(Ok(generation));
        Driver { pool: self.inner.pool.clone(), ticket, request: generate, outputs, cancel }.run().await;
    }
}

/// Refuses what no worker could answer, before anything is reserved for it.
fn check(request: &Request) -> Result<()> {
    let Some(last) = request.messages.last() else {
        return Err(Error::invalid("messages", "messages_empty", "There is no message to answer."));
    };
    if request.continue_last && last.role != ChatRole::Assistant {
        return Err(Error::invalid("messages", "nothing_to_continue", "Only an answer can be continued."));
    }
    let sampling = &request.sampling;
    within("temperature", sampling.temperature, 0.0, 2.0)?;
    within("top_p", sampling.top_p, 0.0, 1.0)?;
    within("min_p", sampling.min_p, 0.0, 1.0)?;
    within("typical_p", sampling.typical_p, 0.0, 1.0)?;
    within("repeat_penalty", sampling.repeat_penalty, 1.0, 2.0)?;
    within("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)?;
    within("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
    if sampling.max_tokens == Some(0) {
        return Err(Error::invalid("max_tokens", "out_of_range", "max_tokens must be at least 1."));
    }
    Ok(())
}

fn within(field: &'static str, value: Option<f32>, least: f32, most: f32) -> Result<()> {
    match value {
        // `contains` is false for NaN.
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(field, "out_of_range", format!("{field} must lie between {least} and {most}.")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Request, check};
    use contract::{model::Sampling, usage::Purpose};
    use domain::Error;
    use worker_protocol::{ChatMessage, ChatRole};

    fn request(sampling: Sampling) -> Request {
        let messages = vec![ChatMessage { role: ChatRole::User, content: "hi".into() }];
        Request { purpose: Purpose::Chat, model: None, messages, continue_last: false, sampling, transient: false }
    }

    #[test]
    fn sampling_out_of_range_is_refused_by_name() {
        assert!(check(&request(Sampling::default())).is_ok());
        let wrong = [
            ("temperature", Sampling { temperature: Some(f32::NAN), ..Sampling::default() }),
            ("top_p", Sampling { top_p: Some(1.1), ..Sampling::default() }),
            ("min_p", Sampling { min_p: Some(-0.1), ..Sampling::default() }),
            ("typical_p", Sampling { typical_p: Some(1.5), ..Sampling::default() }),
            ("frequency_penalty", Sampling { frequency_penalty: Some(-2.5), ..Sampling::default() }),
            ("presence_penalty", Sampling { presence_penalty: Some(f32::INFINITY), ..Sampling::default() }),
            ("repeat_penalty", Sampling { repeat_penalty: Some(2.5), ..Sampling::default() }),
            ("max_tokens", Sampling { max_tokens: Some(0), ..Sampling::default() }),
        ];
        for (name, sampling) in wrong {
            let refused = check(&request(sampling));
            assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == name), "{name}: {refused:?}");
        }
    }

    #[test]
    fn only_an_answer_can_be_continued() {
        let refused = check(&Request { continue_last: true, ..request(Sampling::default()) });
        assert!(matches!(refused, Err(Error::Invalid { code: "nothing_to_continue", .. })));
        let refused = check(&Request { messages: Vec::new(), ..request(Sampling::default()) });
        assert!(matches!(refused, Err(Error::Invalid { code: "messages_empty", .. })));
    }
}

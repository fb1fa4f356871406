//! Responses: answers to programs that the server keeps, so that they can be asked for again, followed, and gone on
//! from. A response belongs to the service account that made it.

mod direct;
mod event;
mod follow;
mod item;
mod making;
pub(crate) mod recovery;
mod start;
mod view;

pub use event::{ResponseEnd, ResponseEvent};
pub use follow::ResponseEvents;
pub use item::{InputItem, Item, ItemName, PlacedImage, Role, in_order};
pub use start::{Asked, CreateResponse};
pub use store::responses::ResponseStatus;
pub use view::Response;

use crate::{running::hub::Entry, shared::Shared};
use contract::ids::{ResponseId, ServiceAccountId, TenantId};
use domain::{Action, Actor, Error, Result};
use futures::StreamExt;
use inference::{Priority, Route};
use making::Making;
use start::Begun;
use std::{sync::Arc, time::Duration};
use telemetry::carried;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Whose response it is.
pub(crate) type Owner = (TenantId, ServiceAccountId);
/// A response on the hub.
pub(crate) type ResponseEntry = Entry<ResponseId, Owner, ResponseEvent>;

/// How the limit of those is called that nobody waits for.
const AT_A_TIME: &str = "responses at a time";
/// Pauses between tries to store one that is there already.
const STORE_PAUSES_MS: [u64; 3] = [100, 500, 2_000];
/// How long a model may take to begin before a stream begins without it. Until then a refusal is an error of its own.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A response that was cancelled is waited for this long.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);

/// A response that was just made, or that is being made.
#[derive(Clone, Debug)]
pub struct Made {
    pub response: Response,
    /// The model that was asked; the response names the one that answers, as far as it is known.
    pub asked: String,
    /// Who makes it, as far as it is known.
    pub route: Option<Route>,
}

/// See the module.
#[derive(Clone)]
pub struct Responses {
    shared: Arc<Shared>,
    priority: Priority,
}

impl Responses {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, priority: Priority::default() }
    }

    /// The same, for those who wait less, or more.
    pub(crate) fn at(&self, priority: Priority) -> Self {
        Self { shared: self.shared.clone(), priority }
    }

    /// Makes a response and waits for its end, unless it is to be made in the background: then it is queued. Whoever
    /// drops this call before cancels it.
    ///
    /// # Errors
    /// Those of [`Responses::stream`], and those of the model.
    pub async fn create(&self, actor: &Actor, mut input: CreateResponse) -> Result<Made> {
        actor.may(Action::UseModels)?;
        input.options.priority = self.priority;
        let (background, store) = (input.background, input.store);
        self.bound(actor, background)?;
        let begun = start::begin(&self.shared, actor, input).await?;
        if background {
            return self.launch(actor, begun, CancellationToken::new()).await;
        }
        let Begun { actor, mut response, account, input, mut generation } = begun;
        let (output, end) = direct::collect(&self.shared, &mut generation).await?;
        response.output = output;
        response.end(end.clone());
        if store {
            // Nobody knew of it before: it is written once, with its end, and without events.
            let mut pauses = STORE_PAUSES_MS.into_iter();
            while let Err(error) = start::store(&self.shared, &actor, account, &response, input.clone(), Some(&end)).await {
                // It is paid for: it is not given up at the first try.
                let Some(pause) = pauses.next() else { return Err(error) };
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        Ok(Made { response, asked: generation.model().to_owned(), route: generation.route() })
    }

    /// Makes a response and tells what the model says as it says it. Whoever drops the events cancels it, unless it is
    /// made in the background.
    ///
    /// # Errors
    /// As [`inference::Inference::admit`]; [`Error::Invalid`] for `previous_response_id`, `input`, `metadata` or `store`;
    /// [`Error::Unavailable`] while the process is ending.
    pub async fn stream(&self, actor: &Actor, mut input: CreateResponse) -> Result<(Made, ResponseEvents)> {
        actor.may(Action::UseModels)?;
        input.options.priority = self.priority;
        let (background, store) = (input.background, input.store);
        self.bound(actor, background)?;
        let mut begun = start::begin(&self.shared, actor, input).await?;
        if !background {
            begun.generation.begun(HEAD_PATIENCE).await?;
        }
        if let Some(route) = begun.generation.route() {
            begun.response.model = route.model;
        }
        if !store {
            let Begun { response, generation, .. } = begun;
            let made = Made { response, asked: generation.model().to_owned(), route: generation.route() };
            return Ok((made, direct::events(self.shared.clone(), generation)));
        }
        let (account, stop) = (begun.account, CancellationToken::new());
        // Made before the response is: whoever leaves in between has left, too.
        let guard = (!background).then(|| stop.clone().drop_guard());
        let made = self.launch(actor, begun, stop).await?;
        let events = follow::follow(self.shared.clone(), actor.clone(), account, made.response.id).await?;
        Ok((made, follow::guarded(events, guard)))
    }

    /// How many tokens the prompt of a response has, with all that it goes on from. Costs nothing.
    ///
    /// # Errors
    /// As [`inference::Inference::count_tokens`]; [`Error::Invalid`] for what makes no sense in a response either.
    pub async fn count_tokens(&self, actor: &Actor, input: CreateResponse) -> Result<u32> {
        actor.may(Action::UseModels)?;
        start::count(&self.shared, actor, input).await
    }

    /// A response as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such response.
    pub async fn get(&self, actor: &Actor, id: ResponseId) -> Result<Response> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        let stored = tx.responses().get(account(actor)?, id).await?.ok_or(not_found())?;
        tx.commit().await?;
        stored.try_into()
    }

    /// A response, and from the first one on what its model says. Works on every node.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such response.
    pub async fn events(&self, actor: &Actor, id: ResponseId) -> Result<(Response, ResponseEvents)> {
        let response = self.get(actor, id).await?;
        let events = follow::follow(self.shared.clone(), actor.clone(), account(actor)?, id).await?;
        Ok((response, events))
    }

    /// What a response was asked, without what came before it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such response.
    pub async fn input(&self, actor: &Actor, id: ResponseId) -> Result<Vec<InputItem>> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        let input = tx.responses().input(account(actor)?, id).await?.ok_or(not_found())?;
        tx.commit().await?;
        serde_json::from_value(input).map_err(Error::internal)
    }

    /// Ends a response that is made in the background, wherever that is; what was said is kept. Does nothing to one
    /// that has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such response; [`Error::Invalid`] if somebody waits for it: who leaves
    /// ends it.
    pub async fn cancel(&self, actor: &Actor, id: ResponseId) -> Result<Response> {
        let response = self.get(actor, id).await?;
        if !response.background {
            let message = "Only a response that is made in the background can be cancelled. Close the connection to end this one.";
            return Err(Error::invalid("response_id", "not_background", message));
        }
        if response.status.is_over() {
            return Ok(response);
        }
        let (account, owner) = (account(actor)?, owner(actor)?);
        // One that is made here ends without a word to the database: the slot is free that much sooner.
        if !self.shared.responses.stop(id, owner) {
            let tx = self.shared.db.begin(actor).await?;
            tx.responses().request_cancel(account, id).await?;
            tx.commit().await?;
            // It may have been stored but not yet running a moment ago.
            self.shared.responses.stop(id, owner);
        }
        let mut events = follow::follow(self.shared.clone(), actor.clone(), account, id).await?;
        let ended = async { while events.next().await.is_some() {} };
        if timeout(CANCEL_PATIENCE, ended).await.is_err() {
            tracing::warn!(response = %id, "a response did not end in time after it was cancelled");
        }
        self.get(actor, id).await
    }

    /// Removes a response; if it is still being made, that ends.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such response.
    pub async fn delete(&self, actor: &Actor, id: ResponseId) -> Result<()> {
        actor.may(Action::UseModels)?;
        let tx = self.shared.db.begin(actor).await?;
        if !tx.responses().delete(account(actor)?, id).await? {
            return Err(not_found());
        }
        // Whoever makes it finds out that it is gone.
        tx.notify(id).await?;
        tx.commit().await?;
        self.shared.responses.stop(id, owner(actor)?);
        Ok(())
    }

    /// What would be refused for lack of room asks no model.
    fn bound(&self, actor: &Actor, background: bool) -> Result<()> {
        if background { self.shared.responses.room(&owner(actor)?, AT_A_TIME) } else { Ok(()) }
    }

    /// Stores the response and has it made. In a task of its own: a client that goes away in between must not leave a
    /// response that is stored as unfinished and is not made.
    async fn launch(&self, actor: &Actor, begun: Begun, stop: CancellationToken) -> Result<Made> {
        let (shared, owner) = (self.shared.clone(), owner(actor)?);
        let launched = self.shared.tracker.spawn(carried(async move {
            let Begun { actor, response, account, input, generation } = begun;
            let entry = if response.background {
                shared.responses.enter_within(response.id, owner, stop, AT_A_TIME)?
            } else {
                shared.responses.enter(response.id, owner, stop)
            };
            start::store(&shared, &actor, account, &response, input, None).await?;
            let making = Making { shared: shared.clone(), actor, id: response.id, background: response.background };
            let (asked, route) = (generation.model().to_owned(), generation.route());
            shared.tracker.spawn(carried(making.run(generation, entry)));
            Ok(Made { response, asked, route })
        }));
        launched.await.map_err(Error::internal)?
    }
}

/// The service account that acts.
fn account(actor: &Actor) -> Result<ServiceAccountId> {
    actor.as_program().map(|program| program.account).ok_or_else(|| Error::forbidden("Only a program has responses."))
}

fn owner(actor: &Actor) -> Result<Owner> {
    Ok((actor.tenant(), account(actor)?))
}

fn not_found() -> Error {
    Error::not_found("response")
}

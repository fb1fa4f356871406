//! From a request to a model that answers it: what was said before is read, the model is asked, the response is stored.

use super::{
    InputItem, Item, ItemName, Response, ResponseEnd,
    item::messages,
    making::{finished, storable},
};
use crate::{check, shared::Shared};
use contract::{
    Millis,
    ids::{ResponseId, ServiceAccountId},
    model::Sampling,
    usage::Purpose,
};
use domain::{Actor, DataClass, Error, Result};
use inference::{Generation, Options, Request};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{
    TenantTx,
    responses::{ChainLimits, NewResponse, ResponseStatus},
};

/// A response is kept this long.
const KEPT_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/// A conversation is read so far back. No model's context holds more.
const CHAIN: ChainLimits = ChainLimits { responses: 1_000, bytes: 16 * 1024 * 1024 };

/// A response to be made.
#[derive(Clone, Debug)]
pub struct CreateResponse {
    pub model: String,
    /// For this response alone: those that follow it do not inherit them.
    pub instructions: Option<String>,
    pub input: Vec<Asked>,
    /// The response that this one goes on from.
    pub previous: Option<ResponseId>,
    pub sampling: Sampling,
    pub options: Options,
    pub metadata: BTreeMap<String, String>,
    /// Parameters of the request as the edge wants to show them again; an object.
    pub echo: Value,
    /// Keep it.
    pub store: bool,
    /// Make it whether or not somebody waits for it.
    pub background: bool,
}

/// One thing that a request says.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Item(InputItem),
    /// What a stored response said.
    Reference(ItemName),
}

/// A response whose model was asked. Dropped, it cancels.
pub(crate) struct Begun {
    /// Who asked, with data that is guarded as closely as all that it goes on from.
    pub actor: Actor,
    pub response: Response,
    pub account: ServiceAccountId,
    /// As it is stored; nothing of what is not.
    pub input: Value,
    pub generation: Generation,
}

/// Asks the model.
pub(crate) async fn begin(shared: &Shared, actor: &Actor, create: CreateResponse) -> Result<Begun> {
    shared.refuse_while_ending()?;
    let account = super::account(actor)?;
    check(&create)?;
    let CreateResponse { model, instructions, input, previous, sampling, options, metadata, echo, store, background } = create;
    let instructions = instructions.map(check::clean);
    let Read { before, mut input, class } = read(shared, actor, account, previous, input).await?;
    let actor = actor.clone().raised_to(class);
    // What is not kept is handed on and not copied: pictures are megabytes.
    let asked: Vec<Item> =
        if store { input.iter().map(|asked| asked.item.clone()).collect() } else { input.drain(..).map(|asked| asked.item).collect() };
    let messages = messages(instructions.as_deref(), before.into_iter().chain(asked));
    let request = Request {
        purpose: Purpose::Api,
        model: Some(model),
        continue_last: false,
        sampling,
        transient: !store,
        // What leaves nothing behind is not kept longer than needed.
        options: if store { options.pinning_known(&messages) } else { options },
        messages,
    };
    let generation = shared.inference.admit(&actor, request).await?;
    let id = ResponseId(generation.usage_id().0);
    for (at, asked) in input.iter_mut().enumerate() {
        asked.id.get_or_insert_with(|| asked.item.input_id(id, at));
    }
    let response = Response {
        id,
        previous,
        model: generation.model().to_owned(),
        status: if background { ResponseStatus::Queued } else { ResponseStatus::InProgress },
        instructions,
        echo,
        output: Vec::new(),
        stats: None,
        cost: None,
        problem: None,
        metadata,
        background,
        created_at: shared.now(),
        ended_at: None,
    };
    let input = if store { storable(&input)? } else { Value::Null };
    Ok(Begun { actor, response, account, input, generation })
}

/// Asks how long the prompt is.
pub(crate) async fn count(shared: &Shared, actor: &Actor, create: CreateResponse) -> Result<u32> {
    let account = super::account(actor)?;
    check(&create)?;
    let CreateResponse { model, instructions, input, previous, sampling, options, store, .. } = create;
    let instructions = instructions.map(check::clean);
    let Read { before, input, class } = read(shared, actor, account, previous, input).await?;
    let asked = input.into_iter().map(|asked| asked.item);
    let messages = messages(instructions.as_deref(), before.into_iter().chain(asked));
    let purpose = Purpose::Api;
    let request = Request { purpose, model: Some(model), messages, continue_last: false, sampling, transient: !store, options };
    shared.inference.count_tokens(&actor.clone().raised_to(class), request).await
}

/// Stores a response: running, or with its end.
pub(crate) async fn store(
    shared: &Shared,
    actor: &Actor,
    account: ServiceAccountId,
    response: &Response,
    input: Value,
    end: Option<&ResponseEnd>,
) -> Result<()> {
    let new = NewResponse {
        id: response.id,
        account,
        previous: response.previous,
        model: response.model.clone(),
        status: if response.background { ResponseStatus::Queued } else { ResponseStatus::InProgress },
        instructions: response.instructions.clone(),
        echo: storable(&response.echo)?,
        input,
        metadata: storable(&response.metadata)?,
        class: actor.class(),
        background: response.background,
        node: shared.node,
        created_at: response.created_at,
        expires_at: response.created_at + KEPT_MS,
    };
    let tx = shared.db.begin(actor).await?;
    tx.responses().insert(&new).await?;
    if let Some(end) = end {
        tx.response_runs().finish(response.id, &finished(&response.output, end)?).await?;
    }
    tx.commit().await
}

fn check(create: &CreateResponse) -> Result<()> {
    if create.background && !create.store {
        let message = "A response that is made in the background must be stored: whoever wants it comes back for it.";
        return Err(Error::invalid("store", "background_needs_store", message));
    }
    if create.input.is_empty() && create.previous.is_none() {
        return Err(Error::invalid("input", "required", "There is nothing to respond to."));
    }
    check::metadata(&create.metadata)
}

/// What a request says, with what it goes on from.
struct Read {
    /// What was said before.
    before: Vec<Item>,
    /// What is asked, with what it refers to.
    input: Vec<InputItem>,
    /// The highest of what was stored.
    class: DataClass,
}

async fn read(shared: &Shared, actor: &Actor, account: ServiceAccountId, previous: Option<ResponseId>, asked: Vec<Asked>) -> Result<Read> {
    let referred: Vec<ResponseId> = asked.iter().filter_map(referred).collect::<BTreeSet<_>>().into_iter().collect();
    if previous.is_none() && referred.is_empty() {
        return Ok(Read { before: Vec::new(), input: resolve(asked, &HashMap::new())?, class: DataClass::Public });
    }
    let tx = shared.db.begin(actor).await?;
    let (before, mut class) = match previous {
        Some(previous) => conversation(&tx, account, previous).await?,
        None => (Vec::new(), DataClass::Public),
    };
    let mut said: HashMap<ResponseId, Vec<Item>> = HashMap::new();
    for (id, output, of_output) in tx.responses().outputs(account, &referred).await? {
        class = class.max(of_output);
        said.insert(id, serde_json::from_value(output).map_err(Error::internal)?);
    }
    tx.commit().await?;
    Ok(Read { before, input: resolve(asked, &said)?, class })
}

fn referred(asked: &Asked) -> Option<ResponseId> {
    match asked {
        Asked::Item(_) => None,
        Asked::Reference(name) => Some(name.response),
    }
}

fn resolve(asked: Vec<Asked>, said: &HashMap<ResponseId, Vec<Item>>) -> Result<Vec<InputItem>> {
    // A reference is short and what it stands for may be long: many of them must not fill the memory.
    let mut left = CHAIN.bytes;
    let take = |asked| {
        let (item, bytes) = one(asked, said)?;
        left -= bytes;
        if left < 0 { Err(Error::invalid("input", "too_large", "input refers to more than can be read.")) } else { Ok(item) }
    };
    asked.into_iter().map(take).collect()
}

/// An item, and how many bytes it adds to the request.
fn one(asked: Asked, said: &HashMap<ResponseId, Vec<Item>>) -> Result<(InputItem, i64)> {
    let ItemName { response, at } = match asked {
        Asked::Item(item) => return Ok((item, 0)),
        Asked::Reference(name) => name,
    };
    let missing = || Error::invalid("input", "item_not_found", "input refers to an item that there is not, or that was not stored.");
    let item = said.get(&response).and_then(|items| items.get(at)).ok_or_else(missing)?;
    let bytes = i64::try_from(item.bytes()).unwrap_or(i64::MAX);
    Ok((InputItem { id: Some(item.id(response, at)), item: item.clone() }, bytes))
}

/// All that was said up to a response, its own words included, and its class. Instructions are not: they were for one response
/// each.
async fn conversation(tx: &TenantTx, account: ServiceAccountId, last: ResponseId) -> Result<(Vec<Item>, DataClass)> {
    let invalid = |code, message: &str| Err(Error::invalid("previous_response_id", code, message));
    let links = tx.responses().chain(account, last, CHAIN).await?;
    let [oldest, ..] = links.as_slice() else {
        return invalid("previous_response_not_found", "There is no such response, or it was not stored.");
    };
    if links.last().is_some_and(|link| !link.status.is_over()) {
        return invalid("previous_response_unfinished", "The previous response is still being made. Wait for its end.");
    }
    let bytes: i64 = links.iter().map(|link| link.bytes).sum();
    let all = u32::try_from(links.len()).unwrap_or(u32::MAX);
    if oldest.previous.is_some() && (all >= CHAIN.responses || bytes >= CHAIN.bytes) {
        return invalid("conversation_too_long", "The conversation before this response is too long. Begin a new one, with a summary.");
    }
    if oldest.previous.is_some() {
        return invalid("previous_response_not_found", "A response that the previous one goes on from is not there any more.");
    }
    let (mut items, mut class) = (Vec::new(), DataClass::Public);
    for link in links {
        class = class.max(link.class);
        let asked: Vec<InputItem> = serde_json::from_value(link.input).map_err(Error::internal)?;
        items.extend(asked.into_iter().map(|asked| asked.item));
        let said: Vec<Item> = serde_json::from_value(link.output).map_err(Error::internal)?;
        items.extend(said);
    }
    Ok((items, class))
}

#[cfg(test)]
mod tests {
    use super::{Asked, CreateResponse, check, resolve};
    use crate::responses::{InputItem, Item, ItemName, Role};
    use contract::{ids::ResponseId, model::Sampling};
    use domain::{Error, Result};
    use inference::Options;
    use serde_json::json;
    use std::collections::{BTreeMap, HashMap};
    use uuid::Uuid;

    fn says(text: &str) -> Item {
        Item::says(Role::User, vec![text.into()])
    }

    fn create() -> CreateResponse {
        CreateResponse {
            model: "m".into(),
            instructions: None,
            input: vec![Asked::Item(InputItem { id: None, item: says("hi") })],
            previous: None,
            sampling: Sampling::default(),
            options: Options::default(),
            metadata: BTreeMap::new(),
            echo: json!({}),
            store: true,
            background: false,
        }
    }

    fn refused<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
        match result {
            Err(Error::Invalid { field: Some(field), .. }) => field,
            other => panic!("not refused as invalid: {other:?}"),
        }
    }

    #[test]
    fn requests_that_make_no_sense_are_refused_by_field() {
        assert!(check(&create()).is_ok());
        assert_eq!(refused(check(&CreateResponse { background: true, store: false, ..create() })), "store");
        assert_eq!(refused(check(&CreateResponse { input: Vec::new(), ..create() })), "input");
        let pairs = |n: usize| (0..n).map(|n| (format!("k{n}"), String::new())).collect::<BTreeMap<_, _>>();
        assert!(check(&CreateResponse { metadata: pairs(16), ..create() }).is_ok());
        assert_eq!(refused(check(&CreateResponse { metadata: pairs(17), ..create() })), "metadata");
        let long = [("k".to_owned(), "x".repeat(513))].into();
        assert_eq!(refused(check(&CreateResponse { metadata: long, ..create() })), "metadata");
    }

    #[test]
    fn references_are_replaced_by_what_was_said() {
        let response = ResponseId(Uuid::now_v7());
        let said = HashMap::from([(response, vec![says("a"), says("b")])]);
        let asked = |at| vec![Asked::Reference(ItemName { response, at })];
        let resolved = resolve(asked(1), &said).expect("it was said");
        assert_eq!(resolved, [InputItem { id: Some(says("b").id(response, 1)), item: says("b") }]);
        assert_eq!(refused(resolve(asked(2), &said)), "input");
        assert_eq!(refused(resolve(asked(0), &HashMap::new())), "input");
    }
}

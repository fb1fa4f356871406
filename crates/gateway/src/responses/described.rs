//! What the API's description says of responses.

use super::{
    Counted, Deleted,
    body::{Body, BodyItem},
    input::{Part, WireItem},
    request::ResponsesRequest,
};
use crate::{openapi::Described, paging::Order};
use serde_json::json;
use utoipa::openapi::{Object, Type};

/// What is common to all that look at one response.
const ID: &str = "The response's id. What somebody else's account made is as unknown as what is not there.";
const EVENTS: &str = "Named events, numbered by `sequence_number` from 0: `response.created`, `response.queued`, `response.in_progress`, \
                      `response.output_item.added`, `response.content_part.added`, `response.output_text.delta`, \
                      `response.reasoning_text.delta`, `response.function_call_arguments.delta`, their `.done`, and at the end \
                      `response.completed`, `response.failed`, `response.incomplete` or `error`.";

pub fn create(operation: Described) -> Described {
    let text = "What was said is kept, unless `store` is false: `previous_response_id` goes on from it, and a stream that broke is \
                followed again with `GET`. With `background` the answer is made without the client.";
    operation
        .named("createResponse", "Answer, and remember", text)
        .reads::<ResponsesRequest>(json!({ "model": "qwen2.5-coder-1.5b-instruct", "input": "Say hello." }))
        .knows::<WireItem>()
        .knows::<Part>()
        .answers::<Body<'_>>("The response.")
        .streams_events(EVENTS)
        .names_its_use()
        .fails(&[409])
}

pub fn count(operation: Described) -> Described {
    let text = "As many as the model would be given: instructions, tools and what `previous_response_id` goes on from among them. Makes no \
                answer and costs nothing.";
    operation
        .named("countInputTokens", "Tokens of an input", text)
        .reads::<ResponsesRequest>(json!({ "model": "qwen2.5-coder-1.5b-instruct", "input": "Say hello." }))
        .knows::<WireItem>()
        .knows::<Part>()
        .answers::<Counted>("How many they are.")
}

pub fn get(operation: Described) -> Described {
    operation
        .named(
            "getResponse",
            "A response, or its events once more",
            "With `stream` it is followed from its beginning, or behind `starting_after`.",
        )
        .addressed("id", ID)
        .asked("stream", Object::with_type(Type::Boolean), "Follow the response as events.")
        .asked("starting_after", Object::with_type(Type::Integer), "The number of the last event seen.")
        .answers::<Body<'_>>("The response.")
        .streams_events(EVENTS)
}

pub fn delete(operation: Described) -> Described {
    operation.named("deleteResponse", "Delete a response", "A running one ends.").addressed("id", ID).answers::<Deleted>("It is gone.")
}

pub fn cancel(operation: Described) -> Described {
    operation
        .named(
            "cancelResponse",
            "Stop a response",
            "What was made until then is kept and paid for. Only responses with `background` can be stopped.",
        )
        .addressed("id", ID)
        .answers::<Body<'_>>("The response as it ended.")
        .fails(&[400])
}

pub fn input_items(operation: Described) -> Described {
    let text = Object::with_type(Type::String);
    operation
        .named("listInputItems", "What a response was asked", "A page of items.")
        .addressed("id", ID)
        .asked("after", text.clone(), "Begin behind the item of this id.")
        .asked("before", text, "End before the item of this id.")
        .asked("limit", Object::with_type(Type::Integer), "1 to 100 items; 20 where nothing is said.")
        .asked_in_words::<Order>("order", "Newest first (`desc`) where nothing is said.")
        .answers_page::<BodyItem<'_>>("The items.")
        .fails(&[400])
}

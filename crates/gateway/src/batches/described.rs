//! What the API's description says of batches.

use super::{BatchBody, BatchRequest};
use crate::{openapi::Described, paging::Order};
use serde_json::json;
use utoipa::openapi::{Object, Type};

const ID: &str = "The batch's id. What somebody else's account asked for is as unknown as what is not there.";

pub fn create(operation: Described) -> Described {
    let text = "The file has one request in each line: `custom_id`, `method`, `url` and `body`. Each is answered as on its route, with low \
                priority, and counts for budgets and limits alike.";
    let example = json!({ "input_file_id": "file-0198c1d2", "endpoint": "/v1/chat/completions", "completion_window": "24h" });
    operation
        .named("createBatch", "Answer all requests of a file", text)
        .reads::<BatchRequest>(example)
        .answers::<BatchBody>("The batch.")
        .fails(&[409])
}

pub fn list(operation: Described) -> Described {
    operation
        .named("listBatches", "Batches of the account", "A page of batches.")
        .asked("after", Object::with_type(Type::String), "Begin behind the batch of this id.")
        .asked("limit", Object::with_type(Type::Integer), "1 to 100 batches; 20 where nothing is said.")
        .asked_in_words::<Order>("order", "Newest first (`desc`) where nothing is said.")
        .answers_page::<BatchBody>("The batches.")
}

pub fn get(operation: Described) -> Described {
    operation
        .named("getBatch", "How far a batch is", "And its files, once there are any.")
        .addressed("id", ID)
        .answers::<BatchBody>("The batch.")
}

pub fn cancel(operation: Described) -> Described {
    operation
        .named("cancelBatch", "Stop a batch", "What was answered until then is kept and paid for.")
        .addressed("id", ID)
        .answers::<BatchBody>("The batch as it is now.")
        .fails(&[409])
}

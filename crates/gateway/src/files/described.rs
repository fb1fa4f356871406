//! What the API's description says of files.

use super::{Deleted, FileBody};
use crate::{openapi::Described, paging::Order};
use utoipa::{
    ToSchema,
    openapi::{Object, Type},
};

const ID: &str = "The file's id. What somebody else's account brought is as unknown as what is not there.";

/// The form.
#[derive(ToSchema)]
#[schema(as = FileForm)]
#[expect(dead_code, reason = "it is described here and read field by field")]
struct Form {
    #[schema(value_type = String, content_media_type = "application/octet-stream")]
    file: String,
    /// `assistants`, `batch`, `evals`, `fine-tune`, `user_data` or `vision`.
    purpose: String,
    /// Only `created_at`.
    #[serde(rename = "expires_after[anchor]")]
    anchor: Option<String>,
    /// After so many seconds the file is gone.
    #[serde(rename = "expires_after[seconds]")]
    seconds: Option<u32>,
}

pub fn create(operation: Described) -> Described {
    operation
        .named("createFile", "Bring a file", "It belongs to the account of the key.")
        .reads_form::<Form>()
        .answers::<FileBody>("The file.")
}

pub fn list(operation: Described) -> Described {
    let text = Object::with_type(Type::String);
    operation
        .named("listFiles", "Files of the account", "A page of files.")
        .asked("purpose", text.clone(), "Only files of this purpose.")
        .asked("after", text, "Begin behind the file of this id.")
        .asked("limit", Object::with_type(Type::Integer), "1 to 10,000 files; as many where nothing is said.")
        .asked_in_words::<Order>("order", "Newest first (`desc`) where nothing is said.")
        .answers_page::<FileBody>("The files.")
}

pub fn get(operation: Described) -> Described {
    operation.named("getFile", "What is known of a file", "Not what is in it.").addressed("id", ID).answers::<FileBody>("The file.")
}

pub fn content(operation: Described) -> Described {
    operation.named("getFileContent", "What is in a file", "As it was brought.").addressed("id", ID).answers_bytes("The file's bytes.")
}

pub fn delete(operation: Described) -> Described {
    operation.named("deleteFile", "Delete a file", "With all that is in it.").addressed("id", ID).answers::<Deleted>("It is gone.")
}

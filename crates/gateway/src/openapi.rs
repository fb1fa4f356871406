//! The API's description: an OpenAPI 3.1 document, made from the types that the routes read and write.
//!
//! Each route's module says what its operation is ([`Described`]); a test compares [`OPERATIONS`] with the router.

mod arguments;
mod described;
mod functions;

use crate::{anthropic, batches, chat, completions, embeddings, files, models, moderations, rerank, responses};
use contract::key::Scope;
pub use described::Described;
use described::Schemas;
pub use functions::{FUNCTIONS_VERSION, PEOPLE_ONLY, is_function};
use std::sync::LazyLock;
use utoipa::{
    ToSchema,
    openapi::{
        Array, Components, HttpMethod, Info, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Schema, Server, Type,
        schema::{AnyOfBuilder, ObjectBuilder},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

/// Names of the two ways to send a key.
const BEARER: &str = "bearer";
const X_API_KEY: &str = "x-api-key";

/// Whose clients an operation is for, which is told by its address; it decides on the shape of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    OpenAi,
    Anthropic,
    /// The interface's own server functions.
    Function,
}

/// Method, path as the document writes it, tag, and what the route's module says.
type Operation = (HttpMethod, &'static str, &'static str, fn(Described) -> Described);

/// Tags in their order, with what they stand for.
const TAGS: [(&str, &str); 8] = [
    ("Chat", "Answers in conversations, in OpenAI's form."),
    ("Responses", "Answers that are kept and can be asked for again, in OpenAI's form."),
    ("Messages", "Answers in Anthropic's form."),
    ("Vectors", "Embeddings and rerankers."),
    ("Batches", "Many requests in a file, answered when there is room, and the files themselves."),
    ("Models", "What there is, and what the guardrails say."),
    (functions::CHATS, functions::ABOUT_CHATS),
    (functions::USAGE, "What all keys of the service account used and what it cost, in the interface's form."),
];

/// Every operation below `/v1`.
const OPERATIONS: &[Operation] = &[
    (HttpMethod::Post, "/v1/chat/completions", "Chat", chat::described),
    (HttpMethod::Post, "/v1/completions", "Chat", completions::described),
    (HttpMethod::Post, "/v1/embeddings", "Vectors", embeddings::described),
    (HttpMethod::Post, "/v1/rerank", "Vectors", rerank::described),
    (HttpMethod::Post, "/v1/moderations", "Models", moderations::described),
    (HttpMethod::Post, "/v1/responses", "Responses", responses::described::create),
    (HttpMethod::Post, "/v1/responses/input_tokens", "Responses", responses::described::count),
    (HttpMethod::Get, "/v1/responses/{id}", "Responses", responses::described::get),
    (HttpMethod::Delete, "/v1/responses/{id}", "Responses", responses::described::delete),
    (HttpMethod::Post, "/v1/responses/{id}/cancel", "Responses", responses::described::cancel),
    (HttpMethod::Get, "/v1/responses/{id}/input_items", "Responses", responses::described::input_items),
    (HttpMethod::Post, "/v1/files", "Batches", files::described::create),
    (HttpMethod::Get, "/v1/files", "Batches", files::described::list),
    (HttpMethod::Get, "/v1/files/{id}", "Batches", files::described::get),
    (HttpMethod::Delete, "/v1/files/{id}", "Batches", files::described::delete),
    (HttpMethod::Get, "/v1/files/{id}/content", "Batches", files::described::content),
    (HttpMethod::Post, "/v1/batches", "Batches", batches::described::create),
    (HttpMethod::Get, "/v1/batches", "Batches", batches::described::list),
    (HttpMethod::Get, "/v1/batches/{id}", "Batches", batches::described::get),
    (HttpMethod::Post, "/v1/batches/{id}/cancel", "Batches", batches::described::cancel),
    (HttpMethod::Post, "/v1/messages", "Messages", anthropic::described),
    (HttpMethod::Post, "/v1/messages/count_tokens", "Messages", anthropic::described_count),
    (HttpMethod::Get, "/v1/models", "Models", models::described_list),
    (HttpMethod::Get, "/v1/models/{model}", "Models", models::described),
];

const ABOUT: &str = "Programs that speak OpenAI's API, or Anthropic's, work by changing base URL and key. Keys (`sk-kontor-…`) belong to \
                     service accounts. Fields that nobody knows, or that ask for what is not done here, are ignored and named in the \
                     header `x-kontor-ignored-fields`; with the request header `x-kontor-strict: true` they are refused. What the \
                     interface itself calls, below `/ui`, takes keys as well, and has names, bodies and errors of its own.";

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| made().0);

/// The API's description.
#[must_use]
pub fn document() -> &'static OpenApi {
    &DOCUMENT
}

/// The document, and all schemas that were met on the way, several times where they were met several times.
fn made() -> (OpenApi, Schemas) {
    let (mut paths, mut schemas) = (Paths::new(), Schemas::new());
    for (method, path, tag, describe) in OPERATIONS {
        let face = if anthropic::is_at(path) { Face::Anthropic } else { Face::OpenAi };
        let operation = describe(Described::new(face, tag, Scope::Inference)).finish(&mut schemas);
        paths.add_path_operation(path, vec![method.clone()], operation);
    }
    for (method, path, scope, describe) in functions::OPERATIONS {
        let operation = describe(Described::new(Face::Function, functions::tag(*scope), *scope)).finish(&mut schemas);
        paths.add_path_operation(path, vec![method.clone()], operation);
    }
    let mut components = Components::new();
    components.schemas.extend(schemas.iter().cloned());
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer()));
    components.add_security_scheme(X_API_KEY, SecurityScheme::ApiKey(x_api_key()));
    let mut info = Info::new("Kontor", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.into());
    let tags = TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    let document = OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .paths(paths)
        .components(Some(components))
        .tags(Some(tags))
        .build();
    (document, schemas)
}

fn bearer() -> utoipa::openapi::security::Http {
    HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A key of a service account, `sk-kontor-…`.")).build()
}

fn x_api_key() -> ApiKey {
    ApiKey::Header(ApiKeyValue::with_description(X_API_KEY, "The same key, as Anthropic's clients send it."))
}

/// A text, or a list of things of a type that has a name in the document.
pub fn text_or<T: ToSchema>() -> Schema {
    text_or_list(Ref::from_schema_name(T::name()))
}

/// A text, or a list of these.
pub fn text_or_list(items: impl Into<RefOr<Schema>>) -> Schema {
    AnyOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::String)).item(Array::new(items)).build().into()
}

/// A list of things of a type that has a name in the document.
pub fn list_of<T: ToSchema>() -> Array {
    Array::new(Ref::from_schema_name(T::name()))
}

#[cfg(test)]
mod tests {
    use super::made;
    use crate::ROUTES;
    use contract::key::Scope;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};

    fn document() -> Value {
        serde_json::to_value(made().0).unwrap()
    }

    /// Every value below, with its place.
    fn walk<'a>(value: &'a Value, path: &str, seen: &mut dyn FnMut(&str, &'a Value)) {
        seen(path, value);
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| walk(value, &format!("{path}/{name}"), seen)),
            Value::Array(values) => values.iter().enumerate().for_each(|(at, value)| walk(value, &format!("{path}/{at}"), seen)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let there: BTreeSet<(String, String)> =
            ROUTES.iter().map(|(method, path, _)| (method.to_lowercase(), path.replace("{*", "{"))).collect();
        let document = document();
        let listed: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(path, _)| !super::is_function(path))
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone())))
            .collect();
        assert_eq!(
            listed, there,
            "If you are here because this failed: a route is not described. Add it to OPERATIONS, with a `described` in its module."
        );
    }

    #[test]
    fn references_lead_somewhere_and_everything_is_used() {
        let document = document();
        let mut used = BTreeSet::new();
        walk(&document, "", &mut |path, value| {
            if let Some(target) = value["$ref"].as_str() {
                let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{path} refers to somewhere else: {target}"));
                assert!(document.pointer(pointer).is_some(), "{path} refers to {target}, which is not there: knows::<T>() adds it");
                used.insert(target.to_owned());
            }
        });
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing refers to {name}");
        }
    }

    #[test]
    fn a_name_means_one_schema() {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for (name, schema) in made().1 {
            let schema = serde_json::to_value(schema).unwrap();
            let first = known.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*first, schema, "two types have the name {name}: give one of them #[schema(as = …)]");
        }
        assert!(known.len() > 50, "{}", known.len());
    }

    #[test]
    fn every_operation_says_all_that_is_needed() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let tags: BTreeSet<&str> = document["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(ids.insert(id.to_owned()) && !id.is_empty(), "{at}: its operationId is empty or not its own");
                for field in ["summary", "description"] {
                    assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{at} has no {field}");
                }
                assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(tag.as_str().unwrap())), "{at}");
                let keys = operation["security"].as_array().unwrap();
                assert_eq!(keys.len(), 2, "{at} takes a key in two ways");
                for scopes in keys.iter().flat_map(|key| key.as_object().unwrap().values()) {
                    assert!(Scope::named(scopes[0].as_str().unwrap()).is_some(), "{at}: {scopes}");
                }
                let answer = &operation["responses"]["200"]["content"];
                let is_file = ["application/octet-stream", "text/event-stream", "text/csv"].iter().any(|kind| answer[*kind].is_object());
                assert!(answer["application/json"]["schema"].is_object() || is_file, "{at}");
                for status in ["401", "403", "429", "500"] {
                    assert!(operation["responses"][status]["content"]["application/json"]["schema"].is_object(), "{at}: {status}");
                }
                let none = Vec::new();
                let parameters = operation["parameters"].as_array().unwrap_or(&none);
                let named: BTreeSet<String> = parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .inspect(|parameter| assert_eq!(parameter["required"], true, "{at}"))
                    .map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap()))
                    .collect();
                let wanted: BTreeSet<String> = path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned).collect();
                assert_eq!(named, wanted, "{at}");
                assert_eq!(method == "post" && !path.ends_with("/cancel"), operation["requestBody"].is_object(), "{at}");
            }
        }
    }

    /// The shapes that were written by hand, not derived, hold what the types take.
    #[test]
    fn schemas_tell_what_the_types_take() {
        let document = document();
        let property = |schema: &str, name: &str| document["components"]["schemas"][schema]["properties"][name].clone();
        let required = |schema: &str| document["components"]["schemas"][schema]["required"].clone();
        assert_eq!(required("ChatRequest"), serde_json::json!(["model", "messages"]));
        let kinds = |value: Value| value["anyOf"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect::<Vec<_>>();
        for (schema, name) in [
            ("ChatRequest", "stop"),
            ("ModerationRequest", "input"),
            ("ResponsesRequest", "input"),
            ("ResponseInputItem", "content"),
            ("MessagesRequest", "system"),
            ("AnthropicMessage", "content"),
            ("AnthropicBlock", "content"),
        ] {
            assert_eq!(kinds(property(schema, name)), ["string", "array"], "{schema}.{name}");
        }
        for (schema, name) in [("CompletionRequest", "prompt"), ("EmbeddingsRequest", "input")] {
            let told = kinds(property(schema, name));
            assert_eq!(told, ["string", "array", "array", "array"], "{schema}.{name}: texts, and token ids of texts");
        }
        assert_eq!(property("ChatRequest", "metadata")["type"], Value::Null, "whatever is ignored may be anything");
        for (schema, name, told) in [
            ("ChatContentPart", "image_url", "ChatImageUrl"),
            ("ResponseInputPart", "image_url", "data:image/png;base64"),
            ("AnthropicBlock", "source", "AnthropicImageSource"),
        ] {
            assert!(property(schema, name).to_string().contains(told), "{schema}.{name}");
        }
        assert_eq!(property("ResponseInputItem", "role")["enum"].as_array().unwrap().len(), 4);
        assert!(document["components"]["schemas"]["Response"]["allOf"].is_array(), "a response shows its request's parameters");
    }
}

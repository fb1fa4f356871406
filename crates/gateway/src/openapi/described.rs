//! One operation, while its module says what it is.

use super::{BEARER, FUNCTIONS_VERSION, Face, X_API_KEY, list_of};
use crate::{anthropic, failure, paging::List};
use contract::{key::Scope, page::Page, problem::Problem};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, Header, HeaderBuilder, Object, Ref, RefOr, Required, Response, ResponseBuilder, Schema, SecurityRequirement, Type,
        content::ContentBuilder,
        path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
    },
};

const CLASS_TEXT: &str = "How closely this is kept, if more closely than what the account usually brings: `public`, `internal`, \
                          `confidential` or `restricted`. It goes to nobody who may not see it.";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const FORM: &str = "multipart/form-data";
const BYTES: &str = "application/octet-stream";
const EVENT_STREAM: &str = "text/event-stream";

/// Schemas by name, as they were met.
pub type Schemas = Vec<(String, RefOr<Schema>)>;

/// What every operation may answer instead, and what it means.
const ALWAYS: &[(u16, &str)] = &[
    (401, "There is no key, or it is not valid any more."),
    (403, "The key's scopes or networks do not allow this, or nobody who runs the model may see such data."),
    (429, "A budget or a limit is used up; `retry-after` and `x-should-retry` say whether to try again."),
    (500, "It is our fault. The log has more under the request's id."),
    (503, "What is needed is not ready; `retry-after` says when to try again."),
];
/// What 429 means where it is a server function that says so.
const FUNCTION_LIMIT: &str = "A limit is reached; `retry-after` says when to try again, if waiting helps.";
/// The same for some.
const SOMETIMES: &[(u16, &str)] = &[
    (400, "The request makes no sense, or a guardrail refuses it. The field at fault is named."),
    (404, "There is no such thing, or this key may not use it."),
    (409, "It is in a state that does not allow this."),
    (413, "The request is too large."),
    (415, "The content type is not `application/json`."),
    (529, "What is needed is not ready; `retry-after` says when to try again."),
];

/// See the module.
pub struct Described {
    face: Face,
    operation: OperationBuilder,
    /// With status 200.
    answer: ResponseBuilder,
    fails: Vec<u16>,
    schemas: Schemas,
}

impl Described {
    pub(super) fn new(face: Face, tag: &str, scope: Scope) -> Self {
        let key = |name: &str| SecurityRequirement::new(name, [scope.name()]);
        // Each is taken by every route; the first is what the face's clients send.
        let keys = match face {
            Face::OpenAi | Face::Function => [key(BEARER), key(X_API_KEY)],
            Face::Anthropic => [key(X_API_KEY), key(BEARER)],
        };
        let id = HeaderBuilder::new().description(Some("Under it the log has the request.")).build();
        let mut answer = ResponseBuilder::new().header("x-request-id", id);
        if face == Face::Function {
            let text = format!("The version of the server functions, `{FUNCTIONS_VERSION}`.");
            answer = answer.header("x-kontor-version", HeaderBuilder::new().description(Some(text)).build());
        }
        Self {
            face,
            operation: OperationBuilder::new().tag(tag).securities(Some(keys)),
            answer,
            fails: Vec::new(),
            schemas: Schemas::new(),
        }
    }

    /// Its name for programs, in a few words, and in more.
    pub fn named(mut self, id: &str, summary: &str, text: &str) -> Self {
        self.operation = self.operation.operation_id(Some(id)).summary(Some(summary)).description(Some(text));
        self
    }

    /// A body, with an example.
    pub fn reads<T: ToSchema>(self, example: Value) -> Self {
        self.body::<T>(example)
            .parameter(ParameterIn::Header, "x-kontor-strict", Object::with_type(Type::Boolean), "Refuse fields that would be ignored.")
            .parameter(ParameterIn::Header, "x-kontor-data-class", Object::with_type(Type::String), CLASS_TEXT)
            .fails(&[400, 404, 413])
    }

    /// The arguments of a server function by their names, with an example.
    pub fn takes<T: ToSchema>(self, example: Value) -> Self {
        self.body::<T>(example).fails(&[400, 413, 415])
    }

    fn body<T: ToSchema>(mut self, example: Value) -> Self {
        let schema = self.refer::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True)).build();
        self.operation = self.operation.request_body(Some(body));
        self
    }

    /// A form with a file.
    pub fn reads_form<T: ToSchema>(mut self) -> Self {
        let schema = self.refer::<T>();
        let body = RequestBodyBuilder::new().content(FORM, Content::new(Some(schema))).required(Some(Required::True)).build();
        self.operation = self.operation.request_body(Some(body));
        self.fails(&[400, 413])
    }

    /// A part of the address.
    pub fn addressed(self, name: &str, text: &str) -> Self {
        self.parameter(ParameterIn::Path, name, Object::with_type(Type::String), text).fails(&[404])
    }

    /// A part of the query string.
    pub fn asked(self, name: &str, schema: impl Into<RefOr<Schema>>, text: &str) -> Self {
        self.parameter(ParameterIn::Query, name, schema, text).fails(&[400])
    }

    /// The same with a type of its own.
    pub fn asked_in_words<T: ToSchema>(mut self, name: &str, text: &str) -> Self {
        let schema = self.refer::<T>();
        self.asked(name, schema, text)
    }

    /// JSON, with status 200.
    pub fn answers<T: ToSchema>(mut self, text: &str) -> Self {
        let schema = self.refer::<T>();
        self.answer = self.answer.description(text).content(JSON, Content::new(Some(schema)));
        self
    }

    /// A page of a list, with status 200.
    pub fn answers_page<T: ToSchema>(mut self, text: &str) -> Self {
        self.refer::<T>();
        // Otherwise all lists would have the same name.
        let name = format!("{}List", T::name());
        self.schemas.push((name.clone(), List::<T>::schema()));
        self.answer = self.answer.description(text).content(JSON, Content::new(Some(Ref::from_schema_name(name))));
        self
    }

    /// A list of these, with status 200.
    pub fn answers_list<T: ToSchema>(mut self, text: &str) -> Self {
        self.refer::<T>();
        self.answer = self.answer.description(text).content(JSON, Content::new(Some(list_of::<T>())));
        self
    }

    /// JSON's `null`, with status 200.
    pub fn answers_nothing(mut self) -> Self {
        self.answer = self.answer.description("It is done.").content(JSON, Content::new(Some(Object::with_type(Type::Null))));
        self
    }

    /// A page of a list that goes on behind its `next`, with status 200.
    pub fn answers_cursor_page<T: ToSchema>(mut self, text: &str) -> Self {
        self.refer::<T>();
        let name = format!("{}Page", T::name());
        self.schemas.push((name.clone(), Page::<T>::schema()));
        self.answer = self.answer.description(text).content(JSON, Content::new(Some(Ref::from_schema_name(name))));
        self
    }

    /// A text of this kind, with status 200.
    pub fn answers_text(mut self, kind: &str, text: &str) -> Self {
        self.answer = self.answer.description(text).content(kind, Content::new(Some(Object::with_type(Type::String))));
        self
    }

    /// Events that hold these, with status 200.
    pub fn follows<T: ToSchema>(mut self, text: &str) -> Self {
        self.answer = self.answer.description(text);
        self.streams::<T>()
    }

    /// A file as it is, with status 200.
    pub fn answers_bytes(mut self, text: &str) -> Self {
        self.answer = self.answer.description(text).content(BYTES, Content::new(None::<Ref>));
        self
    }

    /// Events that hold these, if `stream` is true.
    pub fn streams<T: ToSchema>(mut self) -> Self {
        let schema = self.refer::<T>();
        self.answer = self.answer.content(EVENT_STREAM, Content::new(Some(schema)));
        self
    }

    /// Events of many kinds, if `stream` is true.
    pub fn streams_events(mut self, text: &str) -> Self {
        let mut schema = Object::with_type(Type::String);
        schema.description = Some(text.into());
        self.answer = self.answer.content(EVENT_STREAM, Content::new(Some(schema)));
        self
    }

    /// Its answer's headers name the use in the ledger and who served it.
    pub fn names_its_use(mut self) -> Self {
        let header = |text: &str| -> Header { HeaderBuilder::new().description(Some(text)).build() };
        self.answer = self
            .answer
            .header("x-kontor-usage-id", header("The use in the ledger."))
            .header("x-kontor-model", header("The model that answers."))
            .header("x-kontor-served-by", header("The worker or upstream that answers."))
            .header("x-kontor-attempts", header("How often it was tried."))
            .header("x-kontor-fallback-from", header("The model that was asked for, if another one answers."))
            .header("x-kontor-overhead-ms", header("How long Kontor itself took."))
            .header("x-kontor-cost", header("What it cost, with the currency; streams tell it in `usage`."))
            .header("x-kontor-guardrail-warnings", header("Rules that let the request pass and warn."))
            .header("x-kontor-cache", header("`hit`, `miss` or `bypass`, where the request asked for the response cache."))
            .header("age", header("Seconds since an answer out of the response cache was made."))
            .header(
                "x-kontor-ignored-fields",
                header("Fields of the request that nobody knows, or of which nothing but the default is done."),
            );
        let text = "`use`: take the answer to exactly this request out of the response cache; `refresh`: make it anew; `off`: neither.";
        self.parameter(ParameterIn::Header, "x-kontor-cache", Object::with_type(Type::String), text)
    }

    /// A type that is referred to by what was written by hand.
    pub fn knows<T: ToSchema>(mut self) -> Self {
        self.refer::<T>();
        self
    }

    /// Statuses of failures, beside those that every operation has.
    pub fn fails(mut self, statuses: &[u16]) -> Self {
        self.fails.extend(statuses);
        self
    }

    fn parameter(mut self, place: ParameterIn, name: &str, schema: impl Into<RefOr<Schema>>, text: &str) -> Self {
        let required = if place == ParameterIn::Path { Required::True } else { Required::False };
        let parameter =
            ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema)).description(Some(text)).build();
        self.operation = self.operation.parameter(parameter);
        self
    }

    fn refer<T: ToSchema>(&mut self) -> Ref {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name())
    }

    /// The operation; its schemas go to the others.
    pub(super) fn finish(mut self, schemas: &mut Schemas) -> Operation {
        let error = match self.face {
            Face::OpenAi => self.refer::<failure::Envelope<'_>>(),
            Face::Anthropic => self.refer::<anthropic::Told>(),
            Face::Function => self.refer::<Problem>(),
        };
        // Anthropic has a status of its own for this.
        let fails = if self.face == Face::Anthropic { [self.fails.as_slice(), &[529]].concat() } else { self.fails };
        let always = ALWAYS.iter().filter(|(status, _)| self.face != Face::Anthropic || *status != 503);
        let sometimes = SOMETIMES.iter().filter(|(status, _)| fails.contains(status));
        let failure = |(status, text): &(u16, &str)| {
            let text = if self.face == Face::Function && *status == 429 { FUNCTION_LIMIT } else { *text };
            (status.to_string(), refusal(text, &error, self.face))
        };
        let mut operation = self.operation.response("200", self.answer);
        for (status, response) in always.chain(sometimes).map(failure) {
            operation = operation.response(status, response);
        }
        schemas.append(&mut self.schemas);
        operation.build()
    }
}

fn refusal(text: &str, error: &Ref, face: Face) -> Response {
    let response = ResponseBuilder::new().description(text).content(JSON, Content::new(Some(error.clone())));
    match face {
        Face::OpenAi | Face::Anthropic => response.build(),
        // What is refused before the function is asked comes with this content type.
        Face::Function => response.content(PROBLEM, Content::new(Some(error.clone()))).build(),
    }
}

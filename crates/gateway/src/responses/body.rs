//! Responses and their items as clients see them.

use super::{WORDS, request::Echo};
use crate::usage::Cost;
use contract::{
    Millis,
    chat::AnswerStats,
    ids::ResponseId,
    problem::{Problem, ProblemKind},
};
use inference::{DataUrl, Detail, Finish};
use serde::Serialize;
use serde_json::Value;
use services::responses::{Item, Response, ResponseStatus, Role, in_order};
use std::{borrow::Cow, collections::BTreeMap};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};
use uuid::Uuid;

/// What the API's description says of a [`Role`].
pub fn role() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["system", "developer", "user", "assistant"])).build()
}

/// The id of a response.
pub fn response_id(id: ResponseId) -> String {
    format!("resp_{}", id.0.simple())
}

/// What [`response_id`] wrote.
pub fn parse_response_id(text: &str) -> Option<ResponseId> {
    Uuid::try_parse(text.strip_prefix("resp_")?).ok().map(ResponseId)
}

/// A response.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Response)]
pub struct Body<'a> {
    id: String,
    object: &'static str,
    /// Unix seconds, as `completed_at`.
    created_at: i64,
    #[schema(required)]
    completed_at: Option<i64>,
    status: &'static str,
    background: bool,
    #[schema(required)]
    error: Option<BodyError<'a>>,
    #[schema(required)]
    incomplete_details: Option<IncompleteDetails>,
    #[schema(required)]
    instructions: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    model: &'a str,
    output: Vec<BodyItem<'a>>,
    #[schema(required)]
    previous_response_id: Option<String>,
    #[schema(required)]
    usage: Option<Usage>,
    #[serde(flatten)]
    #[schema(value_type = Echo)]
    echo: &'a Value,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseError)]
struct BodyError<'a> {
    code: &'static str,
    message: Cow<'a, str>,
}

#[derive(Debug, Serialize, ToSchema)]
struct IncompleteDetails {
    reason: &'static str,
}

/// An item that a model said or was told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ResponseItem)]
pub enum BodyItem<'a> {
    Message {
        id: String,
        status: &'static str,
        #[schema(schema_with = role)]
        role: Role,
        content: Vec<Part<'a>>,
    },
    Reasoning {
        id: String,
        status: &'static str,
        #[schema(value_type = Vec<Object>)]
        summary: [(); 0],
        content: Vec<Part<'a>>,
        #[schema(value_type = Option<String>, required)]
        encrypted_content: Option<()>,
    },
    FunctionCall {
        id: String,
        status: &'static str,
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
    FunctionCallOutput {
        id: String,
        status: &'static str,
        call_id: &'a str,
        output: &'a str,
    },
}

/// A part of a message's or thought's content.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(tag = "type")]
#[schema(as = ResponsePart)]
pub enum Part<'a> {
    #[serde(rename = "input_text")]
    Input { text: &'a str },
    #[serde(rename = "input_image")]
    Image {
        /// A data URL.
        #[schema(value_type = String)]
        image_url: DataUrl<'a>,
        #[schema(value_type = String)]
        detail: Detail,
    },
    #[serde(rename = "output_text")]
    Output {
        text: &'a str,
        #[schema(value_type = Vec<Object>)]
        annotations: [(); 0],
        #[schema(value_type = Vec<Object>)]
        logprobs: [(); 0],
    },
    #[serde(rename = "reasoning_text")]
    Reasoning { text: &'a str },
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ResponseUsage)]
struct Usage {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u32,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ResponseInputDetails)]
struct InputDetails {
    /// Came out of the prefix cache.
    cached_tokens: u32,
    /// Nobody pays for writing to it.
    cache_write_tokens: u32,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ResponseOutputDetails)]
struct OutputDetails {
    /// Were thoughts.
    reasoning_tokens: u32,
}

impl<'a> Body<'a> {
    pub fn of(response: &'a Response) -> Self {
        let last = response.output.len().saturating_sub(1);
        let item = |(at, item): (usize, &'a Item)| {
            let status = if at == last { last_status(response.status, item) } else { "completed" };
            BodyItem::of(item, item.id(response.id, at), status)
        };
        let completed = response.ended_at.filter(|_| response.status == ResponseStatus::Completed);
        Self {
            id: response_id(response.id),
            object: "response",
            created_at: seconds(response.created_at),
            completed_at: completed.map(seconds),
            status: response.status.name(),
            background: response.background,
            error: response.problem.as_ref().map(BodyError::of),
            incomplete_details: IncompleteDetails::of(response),
            instructions: response.instructions.as_deref(),
            metadata: &response.metadata,
            model: &response.model,
            output: response.output.iter().enumerate().map(item).collect(),
            previous_response_id: response.previous.map(response_id),
            usage: response.stats.as_ref().map(|stats| Usage::of(stats, Cost::of_money(response.cost.as_ref()))),
            echo: &response.echo,
        }
    }
}

impl IncompleteDetails {
    fn of(response: &Response) -> Option<Self> {
        let filtered = response.stats.as_ref().is_some_and(|stats| stats.finish_reason == Finish::ContentFilter.name());
        let reason = if filtered { "content_filter" } else { "max_output_tokens" };
        (response.status == ResponseStatus::Incomplete).then_some(Self { reason })
    }
}

impl<'a> BodyError<'a> {
    fn of(problem: &'a Problem) -> Self {
        // Clients know only these codes.
        let code = match problem.kind {
            ProblemKind::Invalid | ProblemKind::NotFound | ProblemKind::GuardrailBlocked => "invalid_prompt",
            ProblemKind::QuotaExceeded => "rate_limit_exceeded",
            _ => "server_error",
        };
        Self { code, message: WORDS.said(problem.field.as_deref(), &problem.message) }
    }
}

impl<'a> BodyItem<'a> {
    pub fn id(&self) -> &str {
        match self {
            Self::Message { id, .. } | Self::Reasoning { id, .. } | Self::FunctionCall { id, .. } | Self::FunctionCallOutput { id, .. } => {
                id
            }
        }
    }

    pub fn of(item: &'a Item, id: String, status: &'static str) -> Self {
        match item {
            Item::Message { role, texts, images } => {
                let part = |text: &'a String| match role {
                    Role::Assistant => Part::output(text),
                    Role::System | Role::Developer | Role::User => Part::Input { text },
                };
                let images = images.iter().map(|placed| {
                    let image = &placed.image;
                    (placed.after, Part::Image { image_url: DataUrl(image), detail: image.detail.unwrap_or_default() })
                });
                Self::Message { id, status, role: *role, content: in_order(texts.iter().map(part), images) }
            }
            Item::Reasoning { text } => {
                Self::Reasoning { id, status, summary: [], content: vec![Part::Reasoning { text }], encrypted_content: None }
            }
            Item::Call { call } => Self::FunctionCall { id, status, call_id: &call.id, name: &call.name, arguments: &call.arguments },
            Item::CallOutput { call_id, output } => Self::FunctionCallOutput { id, status, call_id, output },
        }
    }

    /// The same before anything of it was said.
    pub fn begun(item: &'a Item, id: String) -> Self {
        let mut begun = Self::of(item, id, "in_progress");
        match &mut begun {
            Self::Message { content, .. } | Self::Reasoning { content, .. } => content.clear(),
            Self::FunctionCall { arguments, .. } => *arguments = "",
            Self::FunctionCallOutput { .. } => {}
        }
        begun
    }
}

impl<'a> Part<'a> {
    pub fn output(text: &'a str) -> Self {
        Self::Output { text, annotations: [], logprobs: [] }
    }
}

/// The last item is where a response that did not come to its own end was cut off. Calls are always whole.
pub fn last_status(response: ResponseStatus, item: &Item) -> &'static str {
    match (response, item) {
        (ResponseStatus::Completed, _) | (_, Item::Call { .. } | Item::CallOutput { .. }) => "completed",
        (ResponseStatus::Queued | ResponseStatus::InProgress, _) => "in_progress",
        (ResponseStatus::Failed | ResponseStatus::Cancelled | ResponseStatus::Incomplete, _) => "incomplete",
    }
}

fn seconds(at: Millis) -> i64 {
    at.div_euclid(1000)
}

impl Usage {
    fn of(stats: &AnswerStats, cost: Cost) -> Self {
        Self {
            input_tokens: stats.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: stats.cached_tokens, cache_write_tokens: 0 },
            output_tokens: stats.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: stats.reasoning_tokens },
            total_tokens: stats.prompt_tokens.saturating_add(stats.completion_tokens),
            cost,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::{Body, parse_response_id, response_id};
    use contract::{
        chat::AnswerStats,
        ids::ResponseId,
        problem::{Problem, ProblemKind},
    };
    use serde_json::json;
    use services::responses::{Item, Response, ResponseStatus, Role};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    /// A response that has just begun.
    pub fn begun() -> Response {
        Response {
            id: ResponseId(Uuid::nil()),
            previous: None,
            model: "m".into(),
            status: ResponseStatus::InProgress,
            instructions: None,
            echo: json!({ "store": true, "tools": [] }),
            output: Vec::new(),
            stats: None,
            cost: None,
            problem: None,
            metadata: BTreeMap::new(),
            background: false,
            created_at: 1_999,
            ended_at: None,
        }
    }

    #[test]
    fn an_id_comes_back_as_it_went() {
        let id = ResponseId(Uuid::now_v7());
        assert_eq!(parse_response_id(&response_id(id)), Some(id));
        for other in ["", "resp_", "resp_x", &id.to_string(), "chatcmpl-1"] {
            assert_eq!(parse_response_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_response_has_all_that_clients_demand() {
        let said = Item::says(Role::Assistant, vec!["Hello.".into()]);
        let stats = AnswerStats { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 2, reasoning_tokens: 1, ..AnswerStats::default() };
        let status = ResponseStatus::Completed;
        let response = Response { status, output: vec![said], stats: Some(stats), ended_at: Some(2_000), ..begun() };
        let id = "00000000000000000000000000000000";
        let expected = json!({
            "id": format!("resp_{id}"), "object": "response", "created_at": 1, "completed_at": 2, "status": "completed",
            "background": false, "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "model": "m",
            "output": [{
                "type": "message", "id": format!("msg_{id}0000"), "status": "completed", "role": "assistant",
                "content": [{ "type": "output_text", "text": "Hello.", "annotations": [], "logprobs": [] }],
            }],
            "previous_response_id": null,
            "usage": {
                "input_tokens": 9, "input_tokens_details": { "cached_tokens": 4, "cache_write_tokens": 0 },
                "output_tokens": 2, "output_tokens_details": { "reasoning_tokens": 1 }, "total_tokens": 11,
            },
            "store": true, "tools": [],
        });
        assert_eq!(serde_json::to_value(Body::of(&response)).unwrap(), expected);
    }

    #[test]
    fn what_was_cut_off_says_so() {
        let said = vec![Item::Reasoning { text: "hm".into() }, Item::says(Role::Assistant, vec!["Hel".into()])];
        let cut = Response { status: ResponseStatus::Incomplete, output: said.clone(), ..begun() };
        let body = serde_json::to_value(Body::of(&cut)).unwrap();
        assert_eq!((&body["output"][0]["status"], &body["output"][1]["status"]), (&json!("completed"), &json!("incomplete")));
        assert_eq!(body["incomplete_details"], json!({ "reason": "max_output_tokens" }));
        let stats = Some(AnswerStats { finish_reason: "content_filter".into(), ..AnswerStats::default() });
        let filtered = serde_json::to_value(Body::of(&Response { stats, ..cut })).unwrap();
        assert_eq!((&filtered["status"], &filtered["incomplete_details"]["reason"]), (&json!("incomplete"), &json!("content_filter")));
        let problem = Some(Problem::new(ProblemKind::Unavailable, "model_unavailable", "Not now."));
        let failed = Response { status: ResponseStatus::Failed, output: said, problem, ..begun() };
        let body = serde_json::to_value(Body::of(&failed)).unwrap();
        assert_eq!(
            (&body["error"], &body["incomplete_details"]),
            (&json!({ "code": "server_error", "message": "Not now." }), &json!(null))
        );
    }
}

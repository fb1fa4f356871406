//! An answer in one piece.

use super::Named;
use crate::{
    failure::Failure,
    follow::{Source, finish_reason},
    usage::{Cost, Usage},
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use contract::{chat::AnswerStats, ids::RequestId};
use inference::{Finish, Output, Route, TokenLogprob, ToolCall};
use serde::Serialize;
use utoipa::ToSchema;

/// Names the program that answered, as OpenAI names its configuration.
pub const FINGERPRINT: &str = concat!("kontor-", env!("CARGO_PKG_VERSION"));

/// All that was said.
#[derive(Debug)]
pub struct Collected {
    pub choices: Vec<Choice>,
    pub stats: AnswerStats,
    /// The stop text that ended the first one, where that is known.
    pub stop: Option<String>,
    pub route: Option<Route>,
}

impl Collected {
    pub fn cost(&self) -> Cost {
        Cost::of(self.route.as_ref().and_then(|route| route.cost))
    }
}

/// One completion.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<ToolCall>,
    pub logprobs: Vec<TokenLogprob>,
    pub finish: Option<Finish>,
}

/// Reads an answer of so many completions to its end. Dropped before, it cancels.
///
/// # Errors
/// Why it failed.
pub async fn collect(mut source: impl Source, choices: u32, request: RequestId) -> Result<Collected, Failure> {
    let mut all = vec![Choice::default(); usize::try_from(choices).unwrap_or(1)];
    let mut of = |choice: u32, change: &mut dyn FnMut(&mut Choice)| {
        if let Some(choice) = usize::try_from(choice).ok().and_then(|at| all.get_mut(at)) {
            change(choice);
        }
    };
    while let Some(output) = source.next().await {
        match output {
            Output::Text { choice, text, mut logprobs } => of(choice, &mut |choice| {
                choice.text.push_str(&text);
                choice.logprobs.append(&mut logprobs);
            }),
            Output::Reasoning { choice, text } => of(choice, &mut |choice| choice.reasoning.push_str(&text)),
            Output::ToolCall { choice, call, .. } => of(choice, &mut |choice| choice.calls.push(ToolCall::clone(&call))),
            Output::Ended { choice, finish } => of(choice, &mut |choice| choice.finish = Some(finish)),
            Output::End(ended) => {
                if let Some(error) = ended.error {
                    return Err(Failure::of(error, request));
                }
                return Ok(Collected { choices: all, stats: ended.stats, stop: ended.stop, route: source.route() });
            }
            Output::Queued { .. } | Output::Started { .. } | Output::Vectors { .. } => {}
        }
    }
    Err(Failure::of(domain::Error::internal("an answer ended without an end"), request))
}

/// The body.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatCompletion)]
pub struct Body<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<BodyChoice<'a>>,
    usage: Usage,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ChatChoice)]
struct BodyChoice<'a> {
    index: usize,
    message: BodyMessage<'a>,
    #[schema(required)]
    logprobs: Option<Logprobs>,
    finish_reason: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ChatAnswer)]
struct BodyMessage<'a> {
    role: &'static str,
    /// Null where there is nothing but calls.
    #[schema(required)]
    content: Option<&'a str>,
    #[schema(required)]
    refusal: Option<&'a str>,
    #[schema(value_type = Vec<Object>)]
    annotations: [(); 0],
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<BodyCall<'a>>,
}

/// A call as OpenAI writes it; `arguments` is JSON in a string.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatAnswerCall)]
pub struct BodyCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    pub id: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: BodyFunction<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ChatAnswerFunction)]
pub struct BodyFunction<'a> {
    pub name: &'a str,
    pub arguments: &'a str,
}

/// `logprobs` of a choice.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatLogprobs)]
pub struct Logprobs {
    content: Vec<Logprob>,
    #[schema(value_type = Option<String>, required)]
    refusal: Option<()>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ChatLogprob)]
struct Logprob {
    token: String,
    logprob: f32,
    #[schema(value_type = Vec<u32>)]
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::openapi::list_of::<Logprob>)]
    top_logprobs: Option<Vec<Logprob>>,
}

impl Logprobs {
    /// `None` without any.
    pub fn of(tokens: &[TokenLogprob]) -> Option<Self> {
        let content = tokens.iter().map(|token| {
            let top = token.top.iter().map(|token| Logprob::of(token, None)).collect();
            Logprob::of(token, Some(top))
        });
        (!tokens.is_empty()).then(|| Self { content: content.collect(), refusal: None })
    }
}

impl Logprob {
    fn of(token: &TokenLogprob, top_logprobs: Option<Vec<Self>>) -> Self {
        let text = String::from_utf8_lossy(&token.bytes).into_owned();
        Self { token: text, logprob: token.logprob, bytes: token.bytes.clone(), top_logprobs }
    }
}

pub fn respond(collected: &Collected, named: &Named) -> Response {
    let choices = collected.choices.iter().enumerate().map(|(index, choice)| BodyChoice {
        index,
        message: BodyMessage {
            role: "assistant",
            content: Some(choice.text.as_str()).filter(|text| !text.is_empty() || choice.calls.is_empty()),
            refusal: None,
            annotations: [],
            reasoning_content: &choice.reasoning,
            tool_calls: choice.calls.iter().map(|call| BodyCall::of(call, None)).collect(),
        },
        logprobs: Logprobs::of(&choice.logprobs),
        finish_reason: finish_reason(choice.finish, &collected.stats),
    });
    let body = Body {
        id: named.id("chatcmpl"),
        object: "chat.completion",
        created: named.created,
        model: &named.model,
        system_fingerprint: FINGERPRINT,
        choices: choices.collect(),
        usage: Usage::of(&collected.stats, collected.cost()),
    };
    Json(body).into_response()
}

impl<'a> BodyCall<'a> {
    pub fn of(call: &'a ToolCall, index: Option<u32>) -> Self {
        Self { index, id: &call.id, kind: "function", function: BodyFunction { name: &call.name, arguments: &call.arguments } }
    }
}

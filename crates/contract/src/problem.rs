//! What a client learns about a failure. Never carries internals: no SQL, no paths, no stack.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The code of [`ProblemKind::GuardrailBlocked`].
pub const GUARDRAIL_BLOCKED: &str = "guardrail_blocked";
/// The code of [`ProblemKind::QuotaExceeded`] where it is a budget that does not cover the request.
pub const INSUFFICIENT_QUOTA: &str = "insufficient_quota";

/// The code of what a content filter of whoever runs the model does not let through, and of what a rule refuses because it
/// cannot look at it.
pub const CONTENT_FILTER: &str = "content_filter";

/// The codes of refusals for what was said: with the same in it, whatever is sent next is refused as well.
pub const CONTENT_REFUSALS: [&str; 2] = [GUARDRAIL_BLOCKED, CONTENT_FILTER];

/// Whether a code says that a rule refused, where nothing broke and the same would be refused again.
#[must_use]
pub fn is_refusal(code: &str) -> bool {
    matches!(code, GUARDRAIL_BLOCKED | INSUFFICIENT_QUOTA | CONTENT_FILTER)
}

/// The meaning of a failure, one for each variant of `domain::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// Not signed in, or the session ended.
    Unauthenticated,
    /// Signed in, but not allowed to do this at all (never used for somebody else's object).
    Forbidden,
    /// No such object, or one of somebody else.
    NotFound,
    /// Bad input; `field` names the offending one.
    Invalid,
    /// The object changed or is in a state that does not allow this.
    Conflict,
    /// A budget or rate limit is used up.
    QuotaExceeded,
    /// A guardrail refused the content.
    GuardrailBlocked,
    /// Something needed is down or full; try again later.
    Unavailable,
    /// Our fault; the log has the details under the request id.
    Internal,
}

impl ProblemKind {
    /// The HTTP status that all renderers use for this kind.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Invalid | Self::GuardrailBlocked => 400,
            Self::Conflict => 409,
            Self::QuotaExceeded => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }
}

/// A failure as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    pub kind: ProblemKind,
    /// A stable, machine-readable reason within the kind, e.g. `password_too_short`.
    /// The interface translates it; unknown codes fall back to the kind's text.
    pub code: String,
    /// English text for integrators; says what to do next where there is something to do.
    pub message: String,
    /// The input field at fault, in the name the caller used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which a retry makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The id under which the log has the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem without field, retry time or request id.
    #[must_use]
    pub fn new(kind: ProblemKind, code: &str, message: &str) -> Self {
        Self { kind, code: code.into(), message: message.into(), field: None, retry_after: None, request_id: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

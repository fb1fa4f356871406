//! Failures by meaning. One enum for the whole product; three thin renderers at the edge
//! (server function, OpenAI JSON, problem+json).

use crate::quota::Quota;
use contract::problem::{GUARDRAIL_BLOCKED, INSUFFICIENT_QUOTA, Problem, ProblemKind};
use std::{error::Error as StdError, fmt};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
///
/// `message` texts are English and go to the client as they are: never put internals into them.
/// [`Error::Internal`] is the only variant that carries a source, and that source goes to the log only.
#[derive(Debug)]
pub enum Error {
    /// No valid session or key.
    Unauthenticated { code: &'static str, message: String },
    /// Known caller, not allowed to do this at all. Somebody else's object is `NotFound`, never this.
    Forbidden { message: String },
    /// There is no such object for this caller; `what` is a noun (`conversation`).
    NotFound { what: &'static str },
    /// Bad input; `field` is `None` where no field is at fault by itself.
    Invalid { field: Option<&'static str>, code: &'static str, message: String },
    /// The object is in a state that does not allow this.
    Conflict { code: &'static str, message: String },
    /// A budget or a limit is used up; `which` names it. `retry_after_ms` is `None` where waiting does not help.
    QuotaExceeded { quota: Quota, which: String, retry_after_ms: Option<u64> },
    /// A guardrail refused; `rule` is its public name.
    GuardrailBlocked { rule: String },
    /// Something needed is down, full or starting.
    Unavailable { what: &'static str, retry_after: Option<u32> },
    /// Our fault.
    Internal(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Use when there is no valid session or key.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::Unauthenticated { code: "unauthenticated", message: "Sign in to continue.".into() }
    }

    /// Use when the caller's roles do not allow the action, whatever the object.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::Forbidden { message: message.into() }
    }

    /// Use when a program asks for what belongs to people alone: no scope of a key opens it.
    #[must_use]
    pub fn people_only() -> Self {
        Self::forbidden("This is for people who signed in; no key opens it.")
    }

    /// Use when the object does not exist *or belongs to somebody else*.
    #[must_use]
    pub fn not_found(what: &'static str) -> Self {
        Self::NotFound { what }
    }

    /// Use for bad input; `field` is the caller's own name for it, `code` a stable reason.
    #[must_use]
    pub fn invalid(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field), code, message: message.into() }
    }

    /// Use for bad input of which no field is at fault by itself; `code` is a stable reason.
    #[must_use]
    pub fn invalid_whole(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: None, code, message: message.into() }
    }

    /// Use when the object is in a state that forbids the action.
    #[must_use]
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }

    /// Use when something needed is down, full or starting.
    #[must_use]
    pub fn unavailable(what: &'static str, retry_after: Option<u32>) -> Self {
        Self::Unavailable { what, retry_after }
    }

    /// Use when a limit is reached that is free again after `retry_after_ms`.
    #[must_use]
    pub fn limited(quota: Quota, which: impl Into<String>, retry_after_ms: u64) -> Self {
        Self::QuotaExceeded { quota, which: which.into(), retry_after_ms: Some(retry_after_ms) }
    }

    /// Use for everything that should not happen; the source reaches the log, never the client.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }

    /// The kind that clients see.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::Unauthenticated { .. } => ProblemKind::Unauthenticated,
            Self::Forbidden { .. } => ProblemKind::Forbidden,
            Self::NotFound { .. } => ProblemKind::NotFound,
            Self::Invalid { .. } => ProblemKind::Invalid,
            Self::Conflict { .. } => ProblemKind::Conflict,
            Self::QuotaExceeded { .. } => ProblemKind::QuotaExceeded,
            Self::GuardrailBlocked { .. } => ProblemKind::GuardrailBlocked,
            Self::Unavailable { .. } => ProblemKind::Unavailable,
            Self::Internal(_) => ProblemKind::Internal,
        }
    }

    /// What the client may know.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let mut problem = Problem::new(self.kind(), "", "");
        (problem.code, problem.message) = match self {
            Self::Unauthenticated { code, message } => ((*code).into(), message.clone()),
            Self::Forbidden { message } => ("forbidden".into(), message.clone()),
            Self::NotFound { what } => (format!("{what}_not_found"), format!("There is no such {what}.")),
            Self::Invalid { field, code, message } => {
                problem.field = field.map(Into::into);
                ((*code).into(), message.clone())
            }
            Self::Conflict { code, message } => ((*code).into(), message.clone()),
            Self::QuotaExceeded { quota: Quota::Budget, which, .. } => {
                (INSUFFICIENT_QUOTA.into(), format!("The budget \u{201c}{which}\u{201d} does not cover this request."))
            }
            Self::QuotaExceeded { which, retry_after_ms, .. } => {
                problem.retry_after = retry_after_ms.map(seconds);
                ("quota_exceeded".into(), format!("The limit \u{201c}{which}\u{201d} is reached."))
            }
            Self::GuardrailBlocked { rule } => {
                (GUARDRAIL_BLOCKED.into(), format!("The rule \u{201c}{rule}\u{201d} does not allow this content."))
            }
            Self::Unavailable { what, retry_after } => {
                problem.retry_after = *retry_after;
                (format!("{what}_unavailable"), format!("The {what} is not available at the moment. Try again shortly."))
            }
            Self::Internal(_) => {
                ("internal".into(), "Something went wrong on our side. The request id helps your administrator to find out what.".into())
            }
        };
        problem
    }
}

/// Whole seconds, rounded up: whoever waits so long has waited long enough.
#[must_use]
pub fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal(source) => write!(f, "internal error: {source}"),
            other => f.write_str(&other.problem().message),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Internal(source) => Some(&**source),
            _ => None,
        }
    }
}

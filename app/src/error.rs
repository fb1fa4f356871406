//! The one error type of server functions: a [`Problem`] and nothing else crosses the wire.

use contract::problem::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use server_fn::{
    codec::JsonEncoding,
    error::{FromServerFnError, ServerFnErrorErr},
};
use std::fmt;

/// What `http_body_util::Limited` says where it cuts a body that did not announce its length.
const BODY_CUT: &str = "length limit exceeded";
/// The code of a request that is too large, whoever refuses it.
const REQUEST_TOO_LARGE: &str = "request_too_large";

/// What a server function returns when it did not do what it was asked.
///
/// On the wire it is the JSON of [`Problem`]; the HTTP status is set by `edge::fail` from the
/// problem's kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UiError(pub Problem);

impl UiError {
    /// The problem, to be shown with `i18n::problem_text`.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    /// The problem's kind.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// Whether the problem belongs to the input field of this name.
    #[must_use]
    pub fn is_at(&self, field: &str) -> bool {
        self.0.field.as_deref() == Some(field)
    }

    /// The answer never arrived: no network, or the server is restarting.
    #[must_use]
    pub fn offline() -> Self {
        Self(Problem::new(ProblemKind::Unavailable, "offline", "The server could not be reached. Check the connection and try again."))
    }
}

impl From<Problem> for UiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl fmt::Display for UiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for UiError {}

impl FromServerFnError for UiError {
    type Encoder = JsonEncoding;

    /// Failures of the transport itself. Their texts come from libraries, so they are not passed on.
    fn from_server_fn_error(error: ServerFnErrorErr) -> Self {
        let problem = match error {
            ServerFnErrorErr::Request(_) => return Self::offline(),
            ServerFnErrorErr::Args(text) | ServerFnErrorErr::MissingArg(text) => malformed(&text),
            ServerFnErrorErr::Deserialization(text) if cfg!(feature = "ssr") && text == BODY_CUT => {
                Problem::new(ProblemKind::Invalid, REQUEST_TOO_LARGE, "The request is larger than what is allowed here.")
            }
            // The server reads requests; what a browser cannot read is an answer.
            ServerFnErrorErr::Deserialization(text) if cfg!(feature = "ssr") => malformed(&text),
            // A proxy's error page, or a server of another version.
            ServerFnErrorErr::Deserialization(_) => Problem::new(
                ProblemKind::Unavailable,
                "unreadable_answer",
                "The server's answer could not be read. Reload the page and try again.",
            ),
            _ => Problem::new(ProblemKind::Internal, "internal", "Something went wrong on our side."),
        };
        #[cfg(feature = "ssr")]
        let problem = {
            crate::edge::set_status(if problem.code == REQUEST_TOO_LARGE { 413 } else { problem.kind.status() });
            Problem { request_id: Some(crate::edge::request_id().to_string()), ..problem }
        };
        Self(problem)
    }
}

/// A request whose body is not what the function takes. Of serde's text only the name of a missing field is passed on, and
/// where it was noticed.
fn malformed(text: &str) -> Problem {
    let place = text.rsplit_once(" at line ").map(|(_, place)| format!(" (line {place})")).unwrap_or_default();
    let message = format!("The request could not be read{place}: a field is missing or has another type.");
    let mut problem = Problem::new(ProblemKind::Invalid, "malformed_request", &message);
    problem.field = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(field, _)| field.to_owned());
    problem
}

#[cfg(test)]
mod tests {
    use super::{UiError, malformed};
    use contract::problem::{Problem, ProblemKind};
    use server_fn::error::{FromServerFnError, ServerFnErrorErr};

    #[test]
    fn a_problem_survives_the_wire() {
        let mut problem = Problem::new(ProblemKind::Invalid, "password_too_short", "Too short.");
        problem.field = Some("password".into());
        let error = UiError(problem);
        assert_eq!(UiError::de(error.ser()), error);
        assert!(error.is_at("password") && !error.is_at("email"));
    }

    #[test]
    fn a_request_that_cannot_be_read_says_what_is_missing_and_where() {
        let problem = malformed("missing field `turn` at line 1 column 2");
        assert_eq!((problem.kind, problem.field.as_deref()), (ProblemKind::Invalid, Some("turn")));
        assert!(problem.message.contains("(line 1 column 2)"), "{problem}");
        let other = malformed("invalid type: string \"secret\", expected a boolean at line 1 column 20");
        assert!(other.field.is_none() && !other.message.contains("secret"), "{other}");
    }

    #[test]
    fn library_texts_stay_on_the_server() {
        let error = UiError::from_server_fn_error(ServerFnErrorErr::ServerError("SELECT secret FROM t".into()));
        assert!(
            !error.to_string().contains("SELECT"),
            "If you are here because this failed: the text of a library error reached the client; only problems may."
        );
    }
}

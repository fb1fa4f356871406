//! What an upstream's error means, whether it came as an HTTP status or within a stream.

use super::super::backend::BackendError;
use serde_json::Value;
use worker_protocol::{Event, FailCode, Usage};

/// What OpenAI, and Azure after it, document as `code` of what their filters do not let through.
pub(super) const FILTERED: [&str; 2] = ["content_filter", "content_policy_violation"];
/// What OpenAI and Anthropic document as `code` or `type` of an account that is empty or beyond its bound.
const UNPAID: [&str; 3] = ["insufficient_quota", "billing_hard_limit_reached", "billing_error"];

/// It does not take this request; the words are for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: FailCode,
    pub message: String,
}

impl Refusal {
    /// A filter of the server does not let the prompt through.
    fn filtered() -> Self {
        let message = "The server that runs the model declined to answer this (its content filter).";
        Self { code: FailCode::ContentFilter, message: message.into() }
    }

    pub(super) fn event(self, usage: Usage) -> Event {
        Event::Failed { code: self.code, message: self.message, usage }
    }
}

/// A refusal of the request by this status, or of those that stand for one; `text` are the server's words.
///
/// # Errors
/// It is the server's fault, or the operator's.
pub(super) fn meaning(status: u16, text: &str) -> Result<Refusal, BackendError> {
    let refused = |code, message: &str| Ok(Refusal { code, message: message.into() });
    match status {
        // The installation's account, not the request: another server may take it.
        400 | 429 if is_unpaid(text) => Err(BackendError::Failing(format!("status {status}, its account is empty"))),
        429 | 503 | 529 => refused(FailCode::Overloaded, "the upstream has no room"),
        // 424 is what TGI says of a failed generation.
        408 | 424 | 500..=599 => Err(BackendError::Failing(format!("status {status}"))),
        400 if is_filtered(text) => Ok(Refusal::filtered()),
        400 | 413 | 422 if is_too_long(text) => refused(FailCode::ContextLengthExceeded, "the prompt is too long"),
        // The same of its key, account or address.
        401..=404 => Err(BackendError::Failing(format!("status {status}"))),
        400 | 413 | 422 => refused(FailCode::Invalid, "The server that runs the model refused the request."),
        other => Err(BackendError::Refused(other)),
    }
}

/// An error answer complains of the prompt's length.
fn is_too_long(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("context_length_exceeded")
        || text.contains("exceed_context_size")
        || text.contains("prompt is too long")
        || (text.contains("context") && ["exceed", "too long", "maximum", "longer"].iter().any(|word| text.contains(word)))
        || (text.contains("inputs")
            && text.contains("tokens")
            && ["must be <=", "must have less than"].iter().any(|word| text.contains(word)))
}

/// The error of an error answer; within a stream it comes alone.
fn error_in(whole: &Value) -> &Value {
    whole.get("error").filter(|error| error.is_object()).unwrap_or(whole)
}

/// An error calls itself by one of these words. Words anywhere in it would not do: some servers repeat the request, and then
/// anybody could have an upstream taken for what it is not.
fn is_called(error: &Value, words: &[&str]) -> bool {
    ["code", "type"].into_iter().filter_map(|name| error.get(name)?.as_str()).any(|word| words.contains(&word))
}

/// An error answer, or an error within an answer, is that of a content filter.
fn is_filtered(text: &str) -> bool {
    let whole: Value = serde_json::from_str(text).unwrap_or_default();
    is_called(error_in(&whole), &FILTERED)
}

/// An error answer, or an error within an answer, complains of the operator's account.
fn is_unpaid(text: &str) -> bool {
    let whole: Value = serde_json::from_str(text).unwrap_or_default();
    let error = error_in(&whole);
    if is_called(error, &UNPAID) {
        return true;
    }
    // Anthropic documents `billing_error`, and tells an empty account as an `invalid_request_error` of status 400 like any
    // other. Nothing but how its message begins tells them apart; within a stream the message comes alone.
    let message = if whole.is_null() { Some(text) } else { error.get("message").and_then(Value::as_str) };
    message.is_some_and(|message| message.starts_with("Your credit balance is too low"))
}

#[cfg(test)]
mod tests {
    use super::{BackendError, FailCode, is_too_long, is_unpaid, meaning};

    #[test]
    fn too_long_is_recognised_in_each_server_s_words() {
        assert!(is_too_long(r#"{"error":{"code":"context_length_exceeded"}}"#));
        assert!(is_too_long(r#"{"error":{"type":"exceed_context_size_error"}}"#));
        assert!(is_too_long("This model's maximum context length is 4096 tokens. However, you requested 5000"));
        assert!(is_too_long("prompt is too long: 208310 tokens > 200000 maximum"));
        assert!(is_too_long("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"));
        assert!(is_too_long("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"));
        assert!(!is_too_long(r#"{"error":{"message":"unknown field"}}"#));
    }

    #[test]
    fn an_empty_account_is_told_by_its_fields() {
        assert!(is_unpaid(r#"{"error":{"message":"x","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#));
        assert!(is_unpaid(r#"{"error":{"message":"x","type":"invalid_request_error","code":"billing_hard_limit_reached"}}"#));
        assert!(is_unpaid(r#"{"message":"within a stream","type":"insufficient_quota"}"#));
        assert!(is_unpaid(r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#));
        let anthropic = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.";
        assert!(is_unpaid(&format!(r#"{{"type":"error","error":{{"type":"invalid_request_error","message":"{anthropic}"}}}}"#)));
        assert!(is_unpaid(anthropic));
        let echoes =
            r#"{"error":{"message":"unknown field in: my billing says 'Your credit balance is too low'","type":"invalid_request_error"}}"#;
        assert!(!is_unpaid(echoes), "If you are here because this failed: whoever writes certain words has an upstream left alone.");
        assert!(!is_unpaid("no JSON about billing"));
        let quota = r#"{"error":{"code":"insufficient_quota"}}"#;
        assert!(matches!(meaning(429, quota), Err(BackendError::Failing(_))), "waiting does not help");
        assert_eq!(meaning(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#).unwrap().code, FailCode::Overloaded);
        assert_eq!(meaning(400, echoes).unwrap().code, FailCode::Invalid);
    }

    #[test]
    fn a_status_says_whose_fault_it_is() {
        for status in [429, 503, 529] {
            assert_eq!(meaning(status, "").unwrap().code, FailCode::Overloaded, "{status}");
        }
        for status in [401, 402, 403, 404, 408, 424, 500, 502] {
            assert!(matches!(meaning(status, ""), Err(BackendError::Failing(_))), "{status}");
        }
        assert_eq!(meaning(400, "prompt is too long").unwrap().code, FailCode::ContextLengthExceeded);
        let filtered =
            r#"{"error":{"message":"The prompt is too long on violence.","type":null,"param":"prompt","code":"content_filter"}}"#;
        assert_eq!(meaning(400, filtered).unwrap().code, FailCode::ContentFilter);
        assert_eq!(meaning(400, r#"{"code":"content_filter"}"#).unwrap().code, FailCode::ContentFilter, "within a stream");
        let echo = r#"{"error":{"message":"unknown field in: what is a content_filter?","code":"invalid_value"}}"#;
        assert_eq!(meaning(400, echo).unwrap().code, FailCode::Invalid, "what a question says is no reason");
        let unpaid = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.";
        let Err(BackendError::Failing(told)) = meaning(400, unpaid) else { panic!("the account is the operator's business") };
        assert!(!told.contains("Plans"), "{told}");
        assert_eq!(meaning(400, "unknown field").unwrap().code, FailCode::Invalid);
        assert_eq!(meaning(405, ""), Err(BackendError::Refused(405)));
    }
}

//! Each face's own words for the fields that the funnel names. The funnel has those of chats; a client knows only the fields
//! that it sent.

use crate::failure::{Failure, FailureBody};
use std::borrow::Cow;

/// Names of fields: the funnel's, and the face's for the same. What is not listed has the same name.
pub struct Words(pub &'static [(&'static str, &'static str)]);

impl Words {
    /// The failure of a service in this face's words: the field, and where the message begins with its name, that as well.
    pub fn tell(&self, mut failure: Failure) -> Failure {
        self.rename(&mut failure.body);
        failure
    }

    /// As [`Words::tell`].
    pub fn rename(&self, body: &mut FailureBody) {
        let Some((_, theirs)) = self.named(body.param.as_deref()) else { return };
        if let Cow::Owned(message) = self.said(body.param.as_deref(), &body.message) {
            body.message = message;
        }
        body.param = Some(theirs.into());
    }

    /// What is said of a field that the funnel names, where it begins with its name in this face's words.
    pub fn said<'a>(&self, field: Option<&str>, message: &'a str) -> Cow<'a, str> {
        let renamed = self.named(field).and_then(|(ours, theirs)| {
            // `stop` does not begin `stops`.
            let rest = message.strip_prefix(ours).filter(|rest| rest.starts_with([':', ' ']))?;
            Some(format!("{theirs}{rest}"))
        });
        renamed.map_or(Cow::Borrowed(message), Cow::Owned)
    }

    fn named(&self, field: Option<&str>) -> Option<(&'static str, &'static str)> {
        self.0.iter().copied().find(|(ours, _)| field == Some(*ours))
    }
}

#[cfg(test)]
mod tests {
    use super::Words;
    use crate::failure::Failure;

    const WORDS: Words = Words(&[("stop", "stop_sequences"), ("messages", "prompt")]);

    #[test]
    fn a_field_has_the_name_that_the_client_sent() {
        let told = |param: &str, message: &str| {
            let body = WORDS.tell(Failure::invalid(param, None, message)).body;
            (body.param.unwrap_or_default(), body.message)
        };
        let pair = |param: &str, message: &str| (param.to_owned(), message.to_owned());
        assert_eq!(told("stop", "stop must be short."), pair("stop_sequences", "stop_sequences must be short."));
        assert_eq!(told("stop", "stop: not here"), pair("stop_sequences", "stop_sequences: not here"));
        assert_eq!(told("stop", "stops are too many."), pair("stop_sequences", "stops are too many."));
        assert_eq!(told("messages", "prompt is too long: x"), pair("prompt", "prompt is too long: x"));
        assert_eq!(told("messages[0].role", "messages: no"), pair("messages[0].role", "messages: no"), "a path is the client's own");
        assert_eq!(told("n", "stop it."), pair("n", "stop it."));
        assert_eq!(WORDS.tell(Failure::malformed("stop it.")).body.param, None);
        // Where there is no field beside the message.
        assert_eq!(WORDS.said(Some("stop"), "stop: no"), "stop_sequences: no");
        assert_eq!([WORDS.said(None, "stop: no"), WORDS.said(Some("n"), "stop: no")], ["stop: no", "stop: no"]);
    }
}

//! Refusals of whoever runs a model: sentences for the caller, which begin with a field's name where one field is at fault.

use contract::problem::CONTENT_FILTER;
use domain::Error;

/// The fields that workers and the dialects of upstreams name.
const FIELDS: [&str; 22] = [
    "documents",
    "frequency_penalty",
    "input",
    "logit_bias",
    "logprobs",
    "messages",
    "min_p",
    "n",
    "presence_penalty",
    "prompt",
    "reasoning_effort",
    "repeat_penalty",
    "response_format",
    "seed",
    "structured_outputs",
    "suffix",
    "temperature",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "typical_p",
];

/// What only the model's side can judge, such as a schema or the template's demands.
pub(crate) fn refused(message: String) -> Error {
    named("model_refused", message)
}

/// What the model cannot do, however it is asked.
pub(crate) fn unsupported(message: String) -> Error {
    named("unsupported", message)
}

fn named(code: &'static str, message: String) -> Error {
    let begins = |field: &&str| message.strip_prefix(*field).is_some_and(|rest| rest.starts_with(": "));
    match FIELDS.into_iter().find(begins) {
        Some(field) => Error::invalid(field, code, message),
        None => Error::invalid_whole(code, message),
    }
}

/// What a content filter on the model's side does not let through. It names no field.
pub(crate) fn filtered(message: String) -> Error {
    Error::invalid_whole(CONTENT_FILTER, message)
}

#[cfg(test)]
mod tests {
    use super::{refused, unsupported};
    use domain::Error;

    #[test]
    fn a_refusal_names_the_field_that_it_begins_with() {
        let cases = [
            ("structured_outputs: the grammar cannot be used: there is no rule start", Some("structured_outputs")),
            ("response_format: this model's server answers with objects alone", Some("response_format")),
            ("n: not here", Some("n")),
            ("input: there is no token 7", Some("input")),
            ("input 1 is empty", None),
            ("logit_bias: there is no token 7", Some("logit_bias")),
            ("top_logprobs: at most 20 are told", Some("top_logprobs")),
            ("top_p: not while the model thinks", Some("top_p")),
            ("reasoning_effort: it does not think here", Some("reasoning_effort")),
            ("response_formats: x", None),
            ("The server that runs the model refused the request.", None),
        ];
        for (message, expected) in cases {
            let error = refused(message.into());
            assert!(matches!(&error, Error::Invalid { field, code: "model_refused", .. } if *field == expected), "{error:?}");
        }
        let error = unsupported("suffix: this model cannot".into());
        assert!(matches!(error, Error::Invalid { field: Some("suffix"), code: "unsupported", .. }), "{error:?}");
    }
}

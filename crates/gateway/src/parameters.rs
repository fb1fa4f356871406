//! Fields that requests for completions have in common, and values that come in several shapes.

use crate::{
    failure::Failure,
    openapi,
    structured::{self, StructuredOutputs},
};
use contract::model::Sampling;
use inference::Options;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};
use utoipa::{
    ToSchema,
    openapi::{Object, Schema, Type},
};

/// Tokens whose scores may be changed.
const MOST_BIASES: usize = 1024;
/// Bytes of all stop texts together.
const MOST_STOP_BYTES: usize = 16 * 1024;

/// Declares a request for a completion: its own fields and the common ones.
///
/// `#[serde(flatten)]` would do the same, but takes every unknown field for itself, and they are to be noted.
macro_rules! completion_request {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// One of those that `GET /v1/models` lists.
            pub model: String,
            /// Send the answer as it is made.
            pub stream: Option<bool>,
            pub stream_options: Option<$crate::parameters::StreamOptions>,
            $($(#[$field_meta])* $field: $type,)*
            /// 0 to 2; 0 takes the likeliest token each time.
            temperature: Option<f32>,
            /// Nucleus mass, 0 to 1.
            top_p: Option<f32>,
            /// As many tokens are looked at; 0 switches it off.
            top_k: Option<u32>,
            /// Tokens less likely than this share of the likeliest one are left out, 0 to 1.
            min_p: Option<f32>,
            /// Locally typical mass, 0 to 1; 1 is off.
            typical_p: Option<f32>,
            /// 1 is off; at most 2.
            repeat_penalty: Option<f32>,
            /// -2 to 2: taken off a token for each time the answer has it already.
            frequency_penalty: Option<f32>,
            /// -2 to 2: taken off a token once if the answer has it already.
            presence_penalty: Option<f32>,
            /// Same seed, same prompt, same model: same answer.
            seed: Option<i64>,
            /// Longest answer, in tokens.
            max_tokens: Option<u32>,
            /// How many answers.
            n: Option<u32>,
            /// Texts before which an answer ends.
            #[schema(schema_with = $crate::parameters::text_or_texts)]
            stop: Option<$crate::parameters::OneOrMany>,
            /// What is added to the scores of tokens, by their numbers.
            logit_bias: Option<std::collections::BTreeMap<String, f32>>,
            /// What the answer looks like, in vLLM's words.
            structured_outputs: Option<$crate::structured::StructuredOutputs>,
            /// What vLLM's older releases have for `structured_outputs.json`.
            guided_json: Option<serde_json::Value>,
            /// The same for `structured_outputs.regex`.
            guided_regex: Option<String>,
            /// The same for `structured_outputs.choice`.
            guided_choice: Option<Vec<String>>,
            /// The same for `structured_outputs.grammar`.
            guided_grammar: Option<String>,
            // Known, and without a meaning here.
            #[serde(rename = "user")]
            #[schema(schema_with = $crate::known::schema)]
            _user: Option<$crate::known::Known>,
        }

        impl $name {
            /// What they mean together.
            fn parameters(&self) -> $crate::parameters::Parameters {
                $crate::parameters::Parameters {
                    sampling: contract::model::Sampling {
                        temperature: self.temperature,
                        top_p: self.top_p,
                        top_k: self.top_k,
                        min_p: self.min_p,
                        typical_p: self.typical_p,
                        repeat_penalty: self.repeat_penalty,
                        frequency_penalty: self.frequency_penalty,
                        presence_penalty: self.presence_penalty,
                        seed: self.seed.map($crate::parameters::seed),
                        max_tokens: self.max_tokens,
                    },
                    n: self.n,
                    stop: self.stop.clone(),
                    logit_bias: self.logit_bias.clone().unwrap_or_default(),
                    structured: self.structured_outputs.clone(),
                    guided: $crate::structured::StructuredOutputs {
                        json: self.guided_json.clone(),
                        json_object: None,
                        regex: self.guided_regex.clone(),
                        choice: self.guided_choice.clone(),
                        grammar: self.guided_grammar.clone(),
                    },
                }
            }
        }
    };
}
pub(crate) use completion_request;

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub struct StreamOptions {
    #[serde(default)]
    pub include_usage: Option<bool>,
    /// Padding against guessing from the length of frames; ours are sent as they are.
    #[serde(rename = "include_obfuscation")]
    _obfuscation: Option<bool>,
}

/// The common fields, still as the client wrote them.
#[derive(Debug)]
pub struct Parameters {
    pub sampling: Sampling,
    pub n: Option<u32>,
    pub stop: Option<OneOrMany>,
    pub logit_bias: BTreeMap<String, f32>,
    pub structured: Option<StructuredOutputs>,
    /// The older fields for the same.
    pub guided: StructuredOutputs,
}

impl Parameters {
    /// Sampling, and options that hold no more than these.
    ///
    /// # Errors
    /// `n`, `logit_bias` or the form of the answer make no sense.
    pub fn split(self) -> Result<(Sampling, Options), Failure> {
        if self.n == Some(0) {
            return Err(Failure::invalid("n", "out_of_range", "n must be at least 1."));
        }
        // Both are copied for each prompt.
        if self.logit_bias.len() > MOST_BIASES {
            return Err(Failure::invalid("logit_bias", "out_of_range", format!("At most {MOST_BIASES} tokens can have a bias.")));
        }
        let stop = self.stop.map(|stop| stop.0).unwrap_or_default();
        if stop.iter().map(String::len).sum::<usize>() > MOST_STOP_BYTES {
            return Err(Failure::invalid("stop", "out_of_range", "The stop texts are too long."));
        }
        let mut logit_bias = BTreeMap::new();
        for (token, bias) in self.logit_bias {
            let id = token.parse().map_err(|_| {
                Failure::invalid(format!("logit_bias.{token}"), "not_a_token", "The keys of logit_bias are numbers of tokens.")
            })?;
            logit_bias.insert(id, bias);
        }
        let format = structured::form(self.structured, self.guided)?;
        let options = Options { stop, format, logit_bias, n: self.n.unwrap_or(1), ..Options::default() };
        Ok((self.sampling, options))
    }
}

/// OpenAI's seeds have 64 bits, the engine's 32: both halves count.
pub fn seed(seed: i64) -> u32 {
    let [.., high, low] = [seed >> 32, seed].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or_default());
    // Seeds below 2^32 stay what they are.
    high.wrapping_mul(0x9e37_79b9) ^ low
}

/// What the API's description says of [`OneOrMany`].
pub fn text_or_texts() -> Schema {
    openapi::text_or_list(Object::with_type(Type::String))
}

/// One text or several.
#[derive(Clone, Debug, Default)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<OneOrMany, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(OneOrMany(all))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::{OneOrMany, seed};

    #[test]
    fn one_text_or_several() {
        let read = |json: &str| serde_json::from_str::<OneOrMany>(json).map(|texts| texts.0);
        assert_eq!(read(r#""a""#).unwrap(), ["a"]);
        assert_eq!(read(r#"["a","b"]"#).unwrap(), ["a", "b"]);
        let wrong = read("7").unwrap_err().to_string();
        assert!(wrong.contains("expected a string or an array of strings"), "{wrong}");
    }

    #[test]
    fn small_seeds_stay_and_large_ones_differ() {
        assert_eq!((seed(0), seed(42), seed(0xffff_ffff)), (0, 42, 0xffff_ffff));
        assert_ne!(seed(1 << 32), seed(2 << 32));
        assert_ne!(seed(-1), seed(0xffff_ffff));
    }
}

//! Completions that must match a JSON schema, a regular expression or a grammar.
//!
//! llguidance does the parsing. As in llama.cpp's own server, a token is chosen first and the whole vocabulary
//! is ruled through only if it does not fit: the distribution is the same, and most tokens fit.

mod place;

use std::sync::Arc;
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use worker_protocol::Format;

/// Marks the texts of control tokens, which no grammar admits.
const CONTROL: u8 = 0xff;
/// Longest schema, expression or grammar in bytes.
const MAX_BYTES: usize = 256 << 10;
/// Longest schema that is searched for what is wrong with it.
const MAX_SEARCHED: usize = 32 << 10;
/// No part is tried any more after that: whoever sends nonsense shall not keep the processor busy with it.
const LONGEST_SEARCH: Duration = Duration::from_millis(500);

/// The vocabulary as llguidance wants it. Made once per model: it looks at every token.
pub struct Grammars(ParserFactory);

/// What one completion must match, and how far it has come.
pub struct Constraint(Matcher);

impl Grammars {
    /// # Errors
    /// llguidance does not accept the vocabulary.
    pub fn new(vocab: &LlamaVocab<'_>) -> Result<Self, String> {
        if vocab.eot().0 < 0 && vocab.eos().0 < 0 {
            return Err("the vocabulary has no token that ends a text".into());
        }
        let mut factory = ParserFactory::new_simple(&environment(vocab)).map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(Self(factory))
    }

    /// Compiles what a request asks for: milliseconds for a large schema.
    ///
    /// # Errors
    /// A sentence for the caller: what is wrong with it.
    pub fn constraint(&self, format: &Format) -> Result<Constraint, String> {
        let (name, bytes) = match format {
            Format::JsonSchema(schema) => ("JSON schema", schema.to_string().len()),
            Format::Regex(text) => ("regular expression", text.len()),
            Format::Choice(texts) => ("choice", texts.iter().map(String::len).sum()),
            Format::Lark(text) => ("grammar", text.len()),
        };
        if bytes > MAX_BYTES {
            return Err(format!("the {name} has {bytes} bytes, at most {MAX_BYTES} are possible"));
        }
        self.compile(format).map_err(|reason| {
            let until = Instant::now() + LONGEST_SEARCH;
            let fails = |part| if Instant::now() < until { self.compile(&Format::JsonSchema(part)).err() } else { None };
            let place = match format {
                Format::JsonSchema(schema) if bytes <= MAX_SEARCHED => place::of(schema, &reason, fails),
                _ => None,
            };
            let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
            format!("the {name} cannot be used{place}: {reason}")
        })
    }

    fn compile(&self, format: &Format) -> Result<Constraint, String> {
        let grammar = match format {
            Format::JsonSchema(schema) => TopLevelGrammar::from_json_schema(compact(schema.clone())),
            Format::Regex(text) => TopLevelGrammar::from_regex(text),
            Format::Choice(texts) => TopLevelGrammar::from_regex(&one_of(texts)),
            Format::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        };
        let parser = self.0.create_parser(grammar).map_err(|error| error.to_string())?;
        let matcher = Matcher::new(Ok(parser));
        matcher.get_error().map_or(Ok(Constraint(matcher)), Err)
    }
}

impl Constraint {
    /// The same for another completion, which neither waits for this one nor hears of it.
    #[must_use]
    pub fn of_another(&self) -> Self {
        Self(self.0.deep_clone())
    }

    /// `token` may come next.
    pub fn admits(&mut self, token: LlamaToken) -> bool {
        self.0.validate_tokens(&[number(token)]).is_ok_and(|valid| valid == 1)
    }

    /// The completion may end here.
    pub fn may_end(&mut self) -> bool {
        self.0.is_stopped() || self.0.is_accepting().unwrap_or(false)
    }

    /// Nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }

    /// Rules out all tokens that may not come next. `ends` are those that end a completion.
    ///
    /// # Errors
    /// The grammar needs more work for one token than is allowed.
    pub fn rule_out(&mut self, scores: &mut [f32], ends: impl Fn(LlamaToken) -> bool) -> Result<(), String> {
        let may_end = self.may_end();
        let mask = self.0.compute_mask_or_eos().map_err(|error| error.to_string())?;
        for (token, score) in (0_u32..).zip(scores) {
            let allowed = mask.is_allowed(token) || (may_end && i32::try_from(token).is_ok_and(|id| ends(LlamaToken(id))));
            if !allowed {
                *score = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// `token` was chosen.
    ///
    /// # Errors
    /// It does not fit, or the grammar gave up.
    pub fn accept(&mut self, token: LlamaToken) -> Result<(), String> {
        self.0.consume_token(number(token)).map_err(|error| error.to_string())
    }

    /// Bytes that must come next, whatever the model would say.
    pub fn forced(&mut self) -> Vec<u8> {
        if self.0.is_stopped() { Vec::new() } else { self.0.compute_ff_bytes() }
    }
}

fn number(token: LlamaToken) -> u32 {
    u32::try_from(token.0).unwrap_or(u32::MAX)
}

/// The expression of these texts, each as it is.
fn one_of(texts: &[String]) -> String {
    let escaped: Vec<String> = texts.iter().map(|text| regex_syntax::escape(text)).collect();
    format!("({})", escaped.join("|"))
}

/// Without freedom in white space: small models otherwise like to fill the answer with line breaks, and what is
/// forced need not be guessed.
pub fn compact(mut schema: Value) -> Value {
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Some(object) = schema.as_object_mut() {
        object.insert("x-guidance".into(), json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " }));
    }
    schema
}

fn environment(vocab: &LlamaVocab<'_>) -> TokEnv {
    let end = if vocab.eot().0 >= 0 { vocab.eot() } else { vocab.eos() };
    let mut ends = vec![number(end)];
    let mut words = Vec::with_capacity(usize::try_from(vocab.n_tokens()).unwrap_or(0));
    for token in (0..vocab.n_tokens()).map(LlamaToken) {
        if vocab.is_eog(token) && token != end {
            ends.push(number(token));
        }
        let mut bytes = Vec::new();
        vocab.token_to_piece_into(token, &mut bytes, false, None);
        if bytes.is_empty() {
            vocab.token_to_piece_into(token, &mut bytes, true, None);
            if !bytes.is_empty() {
                bytes.insert(0, CONTROL);
            }
        }
        words.push(bytes);
    }
    let info = TokRxInfo::new(u32::try_from(words.len()).unwrap_or(0), number(end));
    Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words).with_eos_tokens(&ends)))
}

#[cfg(test)]
mod tests {
    use super::one_of;

    #[test]
    fn texts_to_choose_from_mean_themselves() {
        assert_eq!(one_of(&["yes".into(), "no (why?)".into(), "[IBAN_1]".into()]), r"(yes|no \(why\?\)|\[IBAN_1\])");
    }
}

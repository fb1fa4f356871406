//! What makes two requests the same one.

use super::Content;
use crate::{
    admit::{Options, Request},
    guard,
};
use contract::{model::Sampling, usage::Purpose};
use serde::Serialize;
use sha2::{Digest, Sha256};
use worker_protocol::{ChatMessage, EmbedInput};

/// Larger requests are not looked up: to hash them would keep others waiting. Bytes.
const LARGEST: usize = 1 << 20;

/// Where an answer is found.
pub(super) type Key = [u8; 32];

/// Known to this process alone, so that nobody can make keys from texts.
pub(super) struct Secret([u8; 32]);

impl Secret {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// SHA-256 of the secret, which is as long as half a block, and of all parts, each with its length before it. A key is
    /// never told, so that nobody can extend one.
    pub(super) fn key(&self, parts: &[&[u8]]) -> Key {
        let mut sha = Sha256::new();
        sha.update(self.0);
        for part in parts {
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part);
        }
        sha.finalize().into()
    }
}

/// What a completion depends on; `None` if it is not the same each time, is not to be kept, or is too large to be looked up.
/// Every field is named here, so that a new one has to be thought of.
pub(crate) fn of_completion(request: &Request) -> Option<Content> {
    let Request { purpose, model: _, messages, continue_last, sampling, transient, options } = request;
    // When and where it is computed, `priority` and what is pinned, makes no difference.
    let Options {
        stop,
        format,
        logit_bias,
        logprobs,
        tools,
        tool_choice,
        single_tool_call,
        think,
        n,
        raw,
        priority: _,
        pinned_messages: _,
        pin_known_only: _,
        cache: _,
    } = options;
    let n = (*n).max(1);
    let images: usize = messages.iter().flat_map(ChatMessage::images).map(|image| image.data.len()).sum();
    if *transient || !is_deterministic(sampling, n) || guard::bytes(messages) + images > LARGEST {
        return None;
    }
    let shape = (stop, format, logit_bias, logprobs, tools, tool_choice, single_tool_call, think, n, raw);
    content(&(purpose.name(), messages, continue_last, sampling, shape), 0)
}

/// What vectors depend on, which always are the same for the same texts.
pub(crate) fn of_inputs(purpose: Purpose, inputs: &[EmbedInput], truncate: bool) -> Option<Content> {
    let bytes = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => text.len(),
        EmbedInput::Tokens(tokens) => tokens.len(),
        EmbedInput::Pair { query, document } => query.len() + document.len(),
    };
    if inputs.iter().map(bytes).sum::<usize>() > LARGEST {
        return None;
    }
    content(&(purpose.name(), inputs, truncate), inputs.len())
}

fn content(of: &impl Serialize, vectors: usize) -> Option<Content> {
    // Our own types always serialise.
    let bytes = serde_json::to_vec(of).ok()?;
    (bytes.len() <= LARGEST).then_some(Content { bytes, vectors })
}

/// The likeliest token each time, or one sequence of the same chances.
fn is_deterministic(sampling: &Sampling, n: u32) -> bool {
    sampling.temperature == Some(0.0) || sampling.seed.is_some() && n == 1
}

#[cfg(test)]
mod tests {
    use super::{Secret, of_completion, of_inputs};
    use crate::admit::{Options, Request};
    use contract::{model::Sampling, usage::Purpose};
    use serde_json::json;
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, Detail, EmbedInput, Format, Image, Priority, Tool, ToolChoice};

    fn request() -> Request {
        Request {
            purpose: Purpose::Api,
            model: None,
            messages: vec![ChatMessage::new(ChatRole::User, "hi")],
            continue_last: false,
            sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
            transient: false,
            options: Options::default(),
        }
    }

    fn pictured(data: &str, detail: Option<Detail>) -> ChatMessage {
        let image = Image { media_type: "image/png".into(), data: data.into(), detail, path: String::new() };
        ChatMessage::of(ChatRole::User, [ContentPart::Text("hi".into()), ContentPart::Image(image)])
    }

    fn with(options: Options) -> Request {
        Request { options, ..request() }
    }

    fn filling(behind: &str) -> Request {
        let messages = ["hi", behind].map(|text| ChatMessage::new(ChatRole::User, text)).to_vec();
        Request { messages, ..with(Options { raw: true, ..Options::default() }) }
    }

    fn sampled(sampling: Sampling) -> Request {
        Request { sampling, ..request() }
    }

    fn bytes(request: &Request) -> Vec<u8> {
        of_completion(request).expect("deterministic").bytes
    }

    #[test]
    fn whatever_changes_the_answer_changes_the_key() {
        let cold = Sampling { temperature: Some(0.0), ..Sampling::default() };
        let tool = Tool { name: "t".into(), description: None, parameters: json!({}) };
        let others = [
            Request { purpose: Purpose::Chat, ..request() },
            Request { messages: vec![ChatMessage::new(ChatRole::User, "hi ")], ..request() },
            Request { messages: vec![ChatMessage::new(ChatRole::System, "hi")], ..request() },
            Request { messages: vec![pictured("AAAA", None)], ..request() },
            Request { messages: vec![pictured("AAAB", None)], ..request() },
            Request { messages: vec![pictured("AAAA", Some(Detail::High))], ..request() },
            Request { continue_last: true, ..request() },
            Request { messages: vec![ChatMessage::of_tokens(vec![1, 2])], ..request() },
            Request { messages: vec![ChatMessage::of_tokens(vec![1, 3])], ..request() },
            filling(" there"),
            filling(" here"),
            sampled(Sampling { seed: Some(1), ..cold.clone() }),
            sampled(Sampling { top_p: Some(0.5), ..cold.clone() }),
            sampled(Sampling { top_k: Some(5), ..cold.clone() }),
            sampled(Sampling { min_p: Some(0.5), ..cold.clone() }),
            sampled(Sampling { typical_p: Some(0.5), ..cold.clone() }),
            sampled(Sampling { repeat_penalty: Some(1.5), ..cold.clone() }),
            sampled(Sampling { frequency_penalty: Some(0.5), ..cold.clone() }),
            sampled(Sampling { presence_penalty: Some(0.5), ..cold.clone() }),
            sampled(Sampling { max_tokens: Some(7), ..cold }),
            with(Options { stop: vec!["x".into()], ..Options::default() }),
            with(Options { format: Some(Format::Regex("a".into())), ..Options::default() }),
            with(Options { format: Some(Format::Choice(vec!["a".into()])), ..Options::default() }),
            with(Options { format: Some(Format::Lark("a".into())), ..Options::default() }),
            with(Options { logit_bias: [(1, 1.0)].into(), ..Options::default() }),
            with(Options { logprobs: Some(0), ..Options::default() }),
            with(Options { tools: vec![tool], ..Options::default() }),
            with(Options { tool_choice: ToolChoice::None, ..Options::default() }),
            with(Options { single_tool_call: true, ..Options::default() }),
            with(Options { think: Some(false), ..Options::default() }),
            with(Options { n: 2, ..Options::default() }),
            with(Options { raw: true, ..Options::default() }),
        ];
        let mut seen = vec![bytes(&request())];
        for other in &others {
            let bytes = bytes(other);
            assert!(!seen.contains(&bytes), "If you are here because this failed: an answer to something else is told. {other:?}");
            seen.push(bytes);
        }
        let later = with(Options { priority: Priority::Batch, pinned_messages: 1, pin_known_only: true, n: 1, ..Options::default() });
        assert_eq!(bytes(&later), seen[0], "when it is computed makes no difference");
    }

    #[test]
    fn only_what_is_the_same_each_time_is_looked_up() {
        let seeded = Sampling { temperature: Some(0.7), seed: Some(7), ..Sampling::default() };
        assert!(of_completion(&sampled(seeded.clone())).is_some());
        let never = [
            ("no temperature", sampled(Sampling::default())),
            ("warm", sampled(Sampling { temperature: Some(0.1), ..Sampling::default() })),
            ("several of one seed", Request { options: Options { n: 2, ..Options::default() }, ..sampled(seeded) }),
            ("not to be kept", Request { transient: true, ..request() }),
            ("large", Request { messages: vec![ChatMessage::new(ChatRole::User, "x".repeat(1 << 20))], ..request() }),
            ("a large picture", Request { messages: vec![pictured(&"A".repeat((1 << 20) + 1), None)], ..request() }),
        ];
        for (name, request) in never {
            assert!(of_completion(&request).is_none(), "{name}");
        }
    }

    #[test]
    fn vectors_are_those_of_these_inputs() {
        let inputs = |texts: &[&str]| texts.iter().map(|text| EmbedInput::Text((*text).into())).collect::<Vec<_>>();
        let key = |purpose, texts: &[&str], truncate| of_inputs(purpose, &inputs(texts), truncate).expect("small").bytes;
        let first = key(Purpose::Embedding, &["a", "b"], false);
        assert_eq!(first, key(Purpose::Embedding, &["a", "b"], false));
        for other in [
            key(Purpose::Embedding, &["b", "a"], false),
            key(Purpose::Embedding, &["a,b"], false),
            key(Purpose::Embedding, &["a", "b"], true),
            key(Purpose::Rerank, &["a", "b"], false),
        ] {
            assert_ne!(first, other);
        }
        let [tokens, text] = [EmbedInput::Tokens(vec![1, 2]), EmbedInput::Text("[1,2]".into())]
            .map(|input| of_inputs(Purpose::Embedding, &[input], false).expect("small").bytes);
        assert_ne!(tokens, text);
        assert!(of_inputs(Purpose::Embedding, &inputs(&["x".repeat(1 << 20).as_str(), "x"]), false).is_none());
    }

    #[test]
    fn keys_are_this_processs_own_and_know_where_parts_end() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_eq!(one.key(&[b"a", b"b"]), one.key(&[b"a", b"b"]));
        assert_ne!(one.key(&[b"a", b"b"]), one.key(&[b"ab", b""]));
        assert_ne!(one.key(&[b"a"]), other.key(&[b"a"]), "If you are here because this failed: texts can be guessed from keys.");
    }
}

//! What is set aside for one use before it begins: an upper bound, so that no budget is ever overdrawn.

use crate::{
    admit::{Options, Request},
    catalogue::ModelConfig,
    holds::tokens,
};
use contract::{model::Sampling, usage::Purpose};
use worker_protocol::{ChatMessage, Format, Tool};

/// What a chat template adds around one message, in tokens, generously.
const TOKENS_AROUND_A_MESSAGE: usize = 16;
/// What a chat template adds around all messages (a default system prompt), in tokens, generously.
const TOKENS_AROUND_A_PROMPT: usize = 64;
/// What providers put around tools and formats.
const TOKENS_AROUND_TOOLS: usize = 600;
/// Bytes that a token stands for, on average over languages: what limits count with until the real figures are there.
const LIKELY_BYTES: u32 = 4;
/// Tokens of an answer whose length nobody bounded, as far as limits are concerned.
const LIKELY_ANSWER: u32 = 256;

/// Answers are not made shorter than this for the sake of a budget.
const SHORTEST_ANSWER: u32 = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub model: String,
    pub purpose: Purpose,
    /// Never fewer than the prompt will have.
    pub prompt: u32,
    /// Never fewer than all answers will have.
    pub answer: u32,
    /// Answers to the same prompt.
    choices: u32,
    /// Nobody said how long an answer may be.
    open_ended: bool,
    /// Never fewer than both together.
    pub tokens: u32,
    /// What it will probably be, for limits per minute.
    pub likely: u32,
    /// Nothing is computed: it counts as a request and costs nothing.
    pub free: bool,
}

impl Reservation {
    /// `context`: the longest of those models that may answer; `image`: the most tokens that they take a picture for.
    pub(crate) fn of(model: &ModelConfig, context: u32, image: u32, request: &Request) -> Self {
        let (text, answer) = most_tokens(&request.messages, &request.sampling, &request.options, context);
        let count = request.messages.iter().flat_map(ChatMessage::images).count();
        let pictures = image.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(context);
        let prompt = text.saturating_add(pictures).min(context);
        let (choices, open_ended) = (request.options.n.max(1), request.sampling.max_tokens.is_none());
        let given = u32::try_from(tokens(&request.messages)).unwrap_or(u32::MAX).min(text);
        // Tokens that were given, and those of a picture, are counted as such, a text's by its bytes.
        let likely = ((text - given) / LIKELY_BYTES).saturating_add(given).saturating_add(pictures).min(prompt);
        let likely = likely.saturating_add(if open_ended { answer.min(LIKELY_ANSWER) } else { answer });
        // However it is split, one answer and its prompt are no longer than the context.
        let tokens = prompt.saturating_add(answer).min(context.saturating_mul(choices));
        let (model, purpose) = (model.id.clone(), request.purpose);
        Self { model, purpose, prompt, answer, choices, open_ended, tokens, likely, free: false }
    }

    /// For inputs of an embedding model or a reranker, of so many bytes each.
    pub(crate) fn of_inputs(model: &ModelConfig, context: u32, purpose: Purpose, inputs: impl IntoIterator<Item = usize>) -> Self {
        let most = |bytes: usize| u32::try_from(bytes + TOKENS_AROUND_A_MESSAGE).unwrap_or(u32::MAX).min(context);
        let prompt = inputs.into_iter().map(most).fold(0, u32::saturating_add);
        Self {
            model: model.id.clone(),
            purpose,
            prompt,
            answer: 0,
            choices: 1,
            open_ended: false,
            tokens: prompt,
            likely: prompt / LIKELY_BYTES,
            free: false,
        }
    }

    /// For a request that computes nothing.
    pub(crate) fn free(model: &str, purpose: Purpose) -> Self {
        let model = model.to_owned();
        Self { model, purpose, prompt: 0, answer: 0, choices: 1, open_ended: false, tokens: 0, likely: 0, free: true }
    }

    /// The same with answers of half the length, where nobody said how long they may be: what a budget has left is better
    /// spent on a short answer than on none.
    pub(crate) fn shorter(&self) -> Option<Self> {
        let each = self.answer / self.choices / 2;
        (self.open_ended && each >= SHORTEST_ANSWER).then(|| Self { answer: each * self.choices, ..self.clone() })
    }

    /// The longest answer that it covers.
    pub(crate) fn longest_answer(&self) -> u32 {
        self.answer / self.choices
    }
}

/// An upper bound of what prompt and answers can use: a token of a text covers at least one byte, and prompt and answer together
/// never exceed the context.
fn most_tokens(messages: &[ChatMessage], sampling: &Sampling, options: &Options, context_length: u32) -> (u32, u32) {
    let described = options.tools.iter().map(bytes_of_tool).sum::<usize>() + options.format.as_ref().map_or(0, bytes_of_format);
    let described = if described > 0 { described + TOKENS_AROUND_TOOLS } else { 0 };
    let around = TOKENS_AROUND_A_PROMPT + described;
    let prompt = messages.iter().map(|message| bytes_of(message) + TOKENS_AROUND_A_MESSAGE).sum::<usize>() + around;
    let counted = u32::try_from(prompt).unwrap_or(u32::MAX);
    let prompt = counted.min(context_length);
    // Counted in tokens the prompt may be far shorter, which leaves the answer more room than is left here.
    let answer = sampling.max_tokens.unwrap_or(context_length).min(context_length);
    (prompt, answer.saturating_mul(options.n.max(1)))
}

fn bytes_of(message: &ChatMessage) -> usize {
    let calls = message.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len() + TOKENS_AROUND_A_MESSAGE);
    let later: usize = message.later_texts().map(str::len).sum();
    let given = message.tokens.len();
    message.content.len() + given + later + message.reasoning.as_ref().map_or(0, String::len) + calls.sum::<usize>()
}

fn bytes_of_tool(tool: &Tool) -> usize {
    let description = tool.description.as_ref().map_or(0, String::len);
    tool.name.len() + description + tool.parameters.to_string().len() + TOKENS_AROUND_A_MESSAGE
}

/// Some upstreams take it as a part of the prompt.
fn bytes_of_format(format: &Format) -> usize {
    match format {
        Format::JsonSchema(schema) => schema.to_string().len(),
        Format::Regex(text) | Format::Lark(text) => text.len(),
        Format::Choice(texts) => texts.iter().map(String::len).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Request, Reservation, TOKENS_AROUND_TOOLS, most_tokens};
    use crate::catalogue::{self, ModelConfig};
    use contract::{model::Sampling, usage::Purpose};
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, Format, Image};

    #[test]
    fn a_reservation_covers_prompt_and_answer() {
        let messages = [ChatMessage::new(ChatRole::User, "a".repeat(100))];
        let short = Sampling { max_tokens: Some(50), ..Sampling::default() };
        assert_eq!(most_tokens(&messages, &short, &Options::default(), 4096), (100 + 16 + 64, 50));
        let schema = serde_json::json!({ "type": "object" });
        let format = Some(Format::JsonSchema(schema.clone()));
        let with_format = most_tokens(&messages, &short, &Options { format, ..Options::default() }, 4096);
        let more = u32::try_from(schema.to_string().len() + TOKENS_AROUND_TOOLS).unwrap();
        assert_eq!(with_format, (100 + 16 + 64 + more, 50), "an upstream may take it as a part of the prompt");
        // A hundred bytes may be ten tokens, and then the answer may be that much longer.
        assert_eq!(most_tokens(&messages, &Sampling::default(), &Options::default(), 4096), (180, 4096));
        let huge = Sampling { max_tokens: Some(u32::MAX), ..Sampling::default() };
        assert_eq!(most_tokens(&messages, &huge, &Options::default(), 4096), (180, 4096));
        let three = Options { n: 3, ..Options::default() };
        assert_eq!(most_tokens(&messages, &short, &three, 4096), (180, 3 * 50));
        assert_eq!(most_tokens(&messages, &short, &Options::default(), 64), (64, 50));
    }

    #[test]
    fn given_tokens_are_counted_as_such_and_what_comes_behind_by_its_bytes() {
        let model = catalogue::tests::model("m");
        let messages = vec![ChatMessage::of_tokens(vec![7; 400]), ChatMessage::new(ChatRole::User, "a".repeat(100))];
        let request = Request {
            purpose: Purpose::Api,
            model: None,
            messages,
            continue_last: false,
            sampling: Sampling { max_tokens: Some(50), ..Sampling::default() },
            transient: false,
            options: Options { raw: true, ..Options::default() },
        };
        let of = Reservation::of(&model, 4_096, 0, &request);
        let around = 2 * 16 + 64;
        assert_eq!((of.prompt, of.tokens, of.likely), (500 + around, 500 + around + 50, 400 + (100 + around) / 4 + 50));
    }

    #[test]
    fn a_picture_counts_as_what_the_model_takes_it_for_and_not_by_its_bytes() {
        let model = ModelConfig { context_length: 8_000, image_tokens: Some(1_000), ..catalogue::tests::model("m") };
        let image = |bytes| Image { media_type: "image/png".into(), data: "A".repeat(bytes), detail: None, path: String::new() };
        let request = |images: &[usize]| Request {
            purpose: Purpose::Api,
            model: None,
            messages: vec![ChatMessage::of(
                ChatRole::User,
                [ContentPart::Text("a".repeat(100))].into_iter().chain(images.iter().map(|bytes| ContentPart::Image(image(*bytes)))),
            )],
            continue_last: false,
            sampling: Sampling { max_tokens: Some(50), ..Sampling::default() },
            transient: false,
            options: Options::default(),
        };
        let of = |images: &[usize]| Reservation::of(&model, 8_000, 1_000, &request(images));
        let two = of(&[8, 100_000]);
        assert_eq!((two.prompt, two.tokens, two.likely), (180 + 2_000, 180 + 2_000 + 50, 180 / 4 + 2_000 + 50));
        let none = of(&[]);
        assert_eq!((none.prompt, none.likely), (180, 180 / 4 + 50));
        assert_eq!(of(&[8; 20]).prompt, 8_000, "no prompt is longer than the context");
    }
}

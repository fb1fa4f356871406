//! `POST /v1/completions`: a text goes on, without a conversation around it. OpenAI calls it legacy; editors that complete
//! code still use it.

mod pieces;
mod several;

use crate::{
    Gateway,
    body::Call,
    chat::{
        Named,
        answer::{Choice, Collected, FINGERPRINT, collect},
    },
    failure::Failure,
    follow::{Source, finish_reason, follow},
    headers,
    inputs::{Input, Inputs},
    known::Known,
    openapi::Described,
    parameters::completion_request,
    usage::Usage,
    wish::Unmet,
    words::Words,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use inference::{CacheUse, ChatMessage, ChatRole, Options, TokenLogprob};
use pieces::Pieces;
use serde::Serialize;
use serde_json::json;
use services::Completion;
use several::Several;
use std::collections::BTreeMap;
use utoipa::ToSchema;

const WORDS: Words = Words(&[("messages", "prompt"), ("top_logprobs", "logprobs")]);
/// Prompts of one request.
const MOST_PROMPTS: usize = 64;
/// Tokens of an answer when the client says nothing, as OpenAI has it.
const DEFAULT_MAX_TOKENS: u32 = 16;

type Prompts = Inputs<MOST_PROMPTS>;

completion_request! {
    /// The body.
    pub struct CompletionRequest {
        /// A text, texts, or as the model's own token ids one text or several. At most 64 prompts and 300,000 token ids. Ids are
        /// taken as they are: nothing is put before them.
        #[schema(schema_with = crate::inputs::schema)]
        prompt: Prompts,
        /// Let each text begin with its prompt, which must be text.
        echo: Option<bool>,
        logprobs: Option<u8>,
        best_of: Option<u32>,
        /// What comes behind the text: the middle between both is filled in, by models that were taught it.
        suffix: Option<String>,
        #[serde(rename = "metadata")]
        #[schema(schema_with = crate::known::schema)]
        _metadata: Option<Known>,
    }
}

impl Unmet for CompletionRequest {}

impl CompletionRequest {
    /// One completion for each prompt, made when it is taken: what they have in common may be long, and prompts are many.
    fn into_completions(self, cache: CacheUse) -> Result<impl ExactSizeIterator<Item = Completion> + Send + 'static, Failure> {
        if self.best_of.is_some_and(|best_of| best_of > self.n.unwrap_or(1)) {
            return Err(Failure::invalid("best_of", "unsupported", "best_of is not supported beyond n; ask for n and choose."));
        }
        let (mut sampling, options) = self.parameters().split()?;
        sampling.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
        if !(1..=MOST_PROMPTS).contains(&self.prompt.0.len()) {
            return Err(Failure::invalid("prompt", "out_of_range", format!("There must be 1 to {MOST_PROMPTS} prompts.")));
        }
        let options = Options { raw: true, logprobs: self.logprobs, cache, ..options };
        let behind = self.suffix.filter(|suffix| !suffix.is_empty()).map(|suffix| ChatMessage::new(ChatRole::User, suffix));
        let prompts = self.prompt.0.into_iter().enumerate().map(|(at, prompt)| message(at, prompt));
        let (model, prompts) = (self.model, prompts.collect::<Result<Vec<ChatMessage>, Failure>>()?);
        Ok(prompts.into_iter().map(move |prompt| Completion {
            model: model.clone(),
            messages: [prompt].into_iter().chain(behind.clone()).collect(),
            sampling: sampling.clone(),
            options: options.clone(),
        }))
    }

    /// The prompts, if texts are to begin with them.
    fn echoed(&self) -> Result<Vec<String>, Failure> {
        let prompts = self.prompt.0.iter().filter(|_| self.echo == Some(true));
        let texts = prompts.map(|prompt| match prompt {
            Input::Text(text) => Ok(text.clone()),
            Input::Tokens(_) => {
                let message = "A prompt of token ids cannot be echoed. Send its text, or leave echo out.";
                Err(Failure::invalid("echo", "unsupported", message))
            }
        });
        texts.collect()
    }
}

/// What texts begin with.
#[derive(Debug, Default)]
pub struct Echo {
    /// Empty: nothing was asked for.
    prompts: Vec<String>,
    /// Texts of each prompt.
    each: u32,
}

impl Echo {
    /// What the text with this number begins with.
    fn before(&self, index: u32) -> &str {
        let prompt = usize::try_from(index / self.each.max(1)).ok().and_then(|at| self.prompts.get(at));
        prompt.map_or("", String::as_str)
    }
}

/// A prompt as the funnel takes it. `at`: its number in the request.
fn message(at: usize, prompt: Input) -> Result<ChatMessage, Failure> {
    match prompt {
        Input::Text(text) => Ok(ChatMessage::new(ChatRole::User, text)),
        Input::Tokens(tokens) if tokens.is_empty() => Err(Failure::invalid("prompt", "empty", format!("Prompt {at} has no tokens."))),
        Input::Tokens(tokens) => Ok(ChatMessage::of_tokens(tokens)),
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Completion)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<BodyChoice<'a>>,
    /// Outer `None`: it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = CompletionChoice)]
struct BodyChoice<'a> {
    text: &'a str,
    index: u32,
    #[schema(required)]
    logprobs: Option<Logprobs>,
    #[schema(required)]
    finish_reason: Option<&'a str>,
}

/// Log-probabilities in the older shape: columns instead of rows.
#[derive(Serialize, ToSchema)]
#[schema(as = CompletionLogprobs)]
struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<BTreeMap<String, f32>>,
    text_offset: Vec<usize>,
}

impl Logprobs {
    fn of(tokens: &[TokenLogprob], mut offset: usize) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        let text = |token: &TokenLogprob| String::from_utf8_lossy(&token.bytes).into_owned();
        let mut columns = Self { tokens: Vec::new(), token_logprobs: Vec::new(), top_logprobs: Vec::new(), text_offset: Vec::new() };
        for token in tokens {
            columns.tokens.push(text(token));
            columns.token_logprobs.push(token.logprob);
            columns.top_logprobs.push(token.top.iter().map(|top| (text(top), top.logprob)).collect());
            columns.text_offset.push(offset);
            offset += columns.tokens.last().map_or(0, |text| text.chars().count());
        }
        Some(columns)
    }
}

/// For the API's description.
pub fn described(operation: Described) -> Described {
    let asked = json!({ "model": "qwen2.5-coder-1.5b-instruct", "prompt": "def fib(n):", "max_tokens": 64 });
    operation
        .named(
            "createCompletion",
            "Go on with a text",
            "Without a conversation around it. Of several prompts, the choices of the second come behind those of the first, and a \
             stream tells them as they are made; what fails after its beginning is an event with an `error`, and ends all. With a \
             `suffix`, what belongs between both is filled in.",
        )
        .reads::<CompletionRequest>(asked)
        .answers::<Body<'_>>("What follows.")
        .streams::<Body<'_>>()
        .names_its_use()
}

pub async fn create(state: State<Gateway>, call: Call<CompletionRequest>) -> Result<Response, Failure> {
    complete(state, call).await.map_err(|failure| WORDS.tell(failure))
}

async fn complete(State(gateway): State<Gateway>, call: Call<CompletionRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, cache } = call;
    let request = actor.request();
    let (streamed, options, prompts) = (input.stream.unwrap_or(false), input.stream_options.unwrap_or_default(), input.echoed()?);
    let several = Several::begin(gateway.services.api.asking(actor), input.into_completions(cache)?).await;
    let mut several = several.map_err(|error| Failure::of(error, request))?;
    let (named, choices, echo) = (several.named().clone(), several.choices(), Echo { prompts, each: several.each() });
    let (mut response, route) = if streamed {
        several.begun(request).await?;
        let route = several.route();
        let pieces = Pieces::new(named.served(route.as_ref()), choices, options.include_usage.unwrap_or(false), echo);
        (follow(several, request, pieces), route)
    } else {
        let collected = collect(several, choices, request).await?;
        (answer(&collected, &named.served(collected.route.as_ref()), &echo), collected.route)
    };
    headers::name_use(response.headers_mut(), &named.model, &named.usage, route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

fn answer(collected: &Collected, named: &Named, echo: &Echo) -> Response {
    let whole = |(index, choice): (u32, &Choice)| format!("{}{}", echo.before(index), choice.text);
    let texts: Vec<String> = (0..).zip(&collected.choices).map(whole).collect();
    let choices = (0..).zip(&collected.choices).zip(&texts).map(|((index, choice), text)| BodyChoice {
        text,
        index,
        logprobs: Logprobs::of(&choice.logprobs, text.chars().count() - choice.text.chars().count()),
        finish_reason: Some(finish_reason(choice.finish, &collected.stats)),
    });
    let body = Body {
        id: &named.id("cmpl"),
        object: "text_completion",
        created: named.created,
        model: &named.model,
        system_fingerprint: FINGERPRINT,
        choices: choices.collect(),
        usage: Some(Some(Usage::of(&collected.stats, collected.cost()))),
    };
    Json(body).into_response()
}

#[cfg(test)]
mod tests {
    use super::{CompletionRequest, DEFAULT_MAX_TOKENS, Echo};
    use inference::CacheUse;
    use serde_json::{Value, json};
    use services::Completion;

    fn request(more: &Value) -> CompletionRequest {
        let mut body = json!({ "model": "m" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(body).unwrap()
    }

    fn completions(more: &Value) -> Vec<Completion> {
        request(more).into_completions(CacheUse::Off).map_err(|failure| failure.event()).unwrap().collect()
    }

    /// Text and tokens of each message.
    fn said(completion: &Completion) -> Vec<(&str, &[u32])> {
        completion.messages.iter().map(|message| (message.content.as_str(), message.tokens.as_slice())).collect()
    }

    #[test]
    fn each_prompt_is_a_completion_and_what_comes_behind_goes_along() {
        let made = completions(&json!({ "prompt": ["a", [1, 2]], "suffix": "z", "n": 3 }));
        let (nothing, tokens): (&[u32], &[u32]) = (&[], &[1, 2]);
        assert_eq!(made.iter().map(said).collect::<Vec<_>>(), [[("a", nothing), ("z", nothing)], [("", tokens), ("z", nothing)]]);
        assert!(made.iter().all(|one| one.options.raw && one.options.n == 3 && one.sampling.max_tokens == Some(DEFAULT_MAX_TOKENS)));
        let made = completions(&json!({ "prompt": [1, 2], "suffix": "" }));
        assert_eq!(made.iter().map(said).collect::<Vec<_>>(), [[("", tokens)]], "one prompt, and nothing behind it");
    }

    #[test]
    fn texts_begin_with_their_prompts_and_token_ids_cannot() {
        assert!(request(&json!({ "prompt": [1], "echo": false })).echoed().is_ok_and(|prompts| prompts.is_empty()));
        let refused = request(&json!({ "prompt": ["a", [1]], "echo": true })).echoed().unwrap_err().event();
        assert!(refused.contains(r#""param":"echo","code":"unsupported""#), "{refused}");
        let prompts = request(&json!({ "prompt": ["a", "b"], "echo": true })).echoed().unwrap();
        let echo = Echo { prompts, each: 2 };
        assert_eq!([0, 1, 2, 3, 4].map(|index| echo.before(index)), ["a", "a", "b", "b", ""]);
        assert_eq!(Echo::default().before(0), "");
    }
}

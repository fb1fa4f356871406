//! `POST /v1/completions`: a text goes on, without a conversation around it. OpenAI calls it legacy; editors that complete
//! code still use it.

use crate::{
    Gateway,
    body::Call,
    chat::{
        Named,
        answer::{Collected, FINGERPRINT, collect},
    },
    failure::Failure,
    follow::{Finishes, Render, begun, finish_reason, follow},
    headers,
    known::Known,
    openapi::Described,
    parameters::{OneOrMany, completion_request},
    sse,
    usage::{Cost, Usage},
    wish::Unmet,
    words::Words,
};
use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use contract::chat::AnswerStats;
use domain::{Amount, Currency};
use futures::{StreamExt, TryStreamExt, stream};
use inference::{ChatMessage, ChatRole, Ended, Finish, Options, Output, TokenLogprob};
use serde::Serialize;
use serde_json::json;
use services::Completion;
use std::collections::{BTreeMap, VecDeque};
use utoipa::ToSchema;

const WORDS: Words = Words(&[("messages", "prompt"), ("top_logprobs", "logprobs")]);
/// Prompts of one request.
const MOST_PROMPTS: usize = 64;
/// Prompts of one request that are computed at the same time.
const PROMPTS_AT_A_TIME: usize = 4;
/// Tokens of an answer when the client says nothing, as OpenAI has it.
const DEFAULT_MAX_TOKENS: u32 = 16;

completion_request! {
    /// The body.
    pub struct CompletionRequest {
        #[schema(schema_with = crate::parameters::text_or_texts)]
        prompt: OneOrMany,
        echo: Option<bool>,
        logprobs: Option<u8>,
        best_of: Option<u32>,
        suffix: Option<String>,
        #[serde(rename = "metadata")]
        #[schema(schema_with = crate::known::schema)]
        _metadata: Option<Known>,
    }
}

impl Unmet for CompletionRequest {}

impl CompletionRequest {
    /// One completion for each prompt.
    fn into_completions(self) -> Result<Vec<Completion>, Failure> {
        if self.best_of.is_some_and(|best_of| best_of > self.n.unwrap_or(1)) {
            return Err(Failure::invalid("best_of", "unsupported", "best_of is not supported beyond n; ask for n and choose."));
        }
        if self.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
            return Err(Failure::invalid("suffix", "unsupported", "suffix is not supported."));
        }
        let (mut sampling, options) = self.parameters().split()?;
        sampling.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
        if !(1..=MOST_PROMPTS).contains(&self.prompt.0.len()) {
            return Err(Failure::invalid("prompt", "out_of_range", format!("There must be 1 to {MOST_PROMPTS} prompts.")));
        }
        let options = Options { raw: true, logprobs: self.logprobs, ..options };
        let completion = |prompt| Completion {
            model: self.model.clone(),
            messages: vec![ChatMessage::new(ChatRole::User, prompt)],
            sampling: sampling.clone(),
            options: options.clone(),
        };
        Ok(self.prompt.0.into_iter().map(completion).collect())
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
            "Without a conversation around it. Several prompts can be completed, or one can be streamed.",
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
    let (streamed, options, echo) = (input.stream.unwrap_or(false), input.stream_options.unwrap_or_default(), input.echo.unwrap_or(false));
    let prompts = if echo { input.prompt.0.clone() } else { Vec::new() };
    let mut completions = input.into_completions()?;
    completions.iter_mut().for_each(|completion| completion.options.cache = cache);
    let choices = completions.first().map_or(1, |first| first.options.n.max(1));
    if streamed && completions.len() > 1 {
        return Err(Failure::invalid(
            "prompt",
            "unsupported",
            "Several prompts can be completed, or one can be streamed, but not both at once.",
        ));
    }
    let begin = |completion| async { gateway.services.api.complete(&actor, completion).await.map_err(|error| Failure::of(error, request)) };
    let include_usage = options.include_usage.unwrap_or(false);
    let (mut response, wanted, named, route) = if streamed {
        let Some(completion) = completions.into_iter().next() else {
            return Err(Failure::of(domain::Error::internal("a completion without a prompt"), request));
        };
        let mut generation = begin(completion).await?;
        begun(&mut generation, request).await?;
        let (route, echoed) = (generation.route(), prompts.first().cloned());
        let wanted = generation.model().to_owned();
        let named = Named::of(&generation).served(route.as_ref());
        let pieces = Pieces::new(named.clone(), choices, include_usage, echoed);
        (follow(generation, request, pieces), wanted, named, route)
    } else {
        // A few at a time: many prompts of one program must not keep everybody else waiting.
        let one = |completion| async {
            let generation = begin(completion).await?;
            let named = Named::of(&generation);
            Ok::<_, Failure>((named, collect(generation, choices, request).await?))
        };
        let all: Vec<(Named, Collected)> = stream::iter(completions).map(one).buffered(PROMPTS_AT_A_TIME).try_collect().await?;
        let first = all.first().map(|(named, first)| (named.model.clone(), named.served(first.route.as_ref()), first.route.clone()));
        let Some((wanted, named, mut route)) = first else {
            return Err(Failure::of(domain::Error::internal("a completion without a prompt"), request));
        };
        if let Some(route) = &mut route {
            route.cost = together(all.iter().map(|(_, part)| part.route.as_ref().and_then(|route| route.cost)));
            route.cached = all.iter().filter_map(|(_, part)| part.route.as_ref()).map(|route| route.cached).max().unwrap_or_default();
        }
        let cost = Cost::of(route.as_ref().and_then(|route| route.cost));
        (answer(&all, &named, choices, &prompts, cost), wanted, named, route)
    };
    headers::name_use(response.headers_mut(), &wanted, &named.usage, route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

/// What several uses cost, if all of them have a price in the same currency.
fn together(costs: impl IntoIterator<Item = Option<(Currency, Amount)>>) -> Option<(Currency, Amount)> {
    let mut costs = costs.into_iter();
    let first = costs.next()??;
    costs.try_fold(first, |(currency, sum), cost| cost.filter(|(other, _)| *other == currency).map(|(_, cost)| (currency, sum + cost)))
}

fn answer(collected: &[(Named, Collected)], named: &Named, choices: u32, prompts: &[String], cost: Cost) -> Response {
    let mut all = Vec::new();
    let mut sum = AnswerStats::default();
    let mut texts: Vec<Vec<String>> = Vec::new();
    for (number, (_, part)) in collected.iter().enumerate() {
        let echoed = prompts.get(number).map_or("", String::as_str);
        texts.push(part.choices.iter().map(|choice| format!("{echoed}{}", choice.text)).collect());
        sum.prompt_tokens += part.stats.prompt_tokens;
        sum.cached_tokens += part.stats.cached_tokens;
        sum.completion_tokens += part.stats.completion_tokens;
        sum.reasoning_tokens += part.stats.reasoning_tokens;
    }
    for ((number, (_, part)), texts) in (0..).zip(collected).zip(&texts) {
        for ((at, choice), text) in (0..).zip(&part.choices).zip(texts) {
            all.push(BodyChoice {
                text,
                index: number * choices + at,
                logprobs: Logprobs::of(&choice.logprobs, text.chars().count() - choice.text.chars().count()),
                finish_reason: Some(finish_reason(choice.finish, &part.stats)),
            });
        }
    }
    let body = Body {
        id: &named.id("cmpl"),
        object: "text_completion",
        created: named.created,
        model: &named.model,
        system_fingerprint: FINGERPRINT,
        choices: all,
        usage: Some(Some(Usage::of(&sum, cost))),
    };
    Json(body).into_response()
}

/// The text as it is made.
struct Pieces {
    id: String,
    named: Named,
    include_usage: bool,
    echoed: Option<String>,
    /// How far each choice's text came, in characters.
    lengths: Vec<usize>,
    finishes: Finishes,
}

impl Pieces {
    fn new(named: Named, choices: u32, include_usage: bool, echoed: Option<String>) -> Self {
        let lengths = vec![0; usize::try_from(choices).unwrap_or(1)];
        Self { id: named.id("cmpl"), named, include_usage, echoed, lengths, finishes: Finishes::new(choices) }
    }

    fn say(&mut self, index: u32, text: &str, logprobs: &[TokenLogprob], finish_reason: Option<&str>) -> Option<Bytes> {
        let length = usize::try_from(index).ok().and_then(|at| self.lengths.get_mut(at))?;
        let logprobs = Logprobs::of(logprobs, *length);
        *length += text.chars().count();
        Some(self.piece(vec![BodyChoice { text, index, logprobs, finish_reason }], self.include_usage.then_some(None)))
    }

    fn piece(&self, choices: Vec<BodyChoice<'_>>, usage: Option<Option<Usage>>) -> Bytes {
        sse::data(&Body {
            id: &self.id,
            object: "text_completion",
            created: self.named.created,
            model: &self.named.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        })
    }
}

impl Render for Pieces {
    fn begin(&mut self, frames: &mut VecDeque<Bytes>) {
        let Some(prompt) = self.echoed.take() else { return };
        for (index, _) in (0..).zip(self.lengths.clone()) {
            frames.extend(self.say(index, &prompt, &[], None));
        }
    }

    fn take(&mut self, output: Output, frames: &mut VecDeque<Bytes>) {
        if let Output::Text { choice, text, logprobs } = output {
            frames.extend(self.say(choice, &text, &logprobs, None));
        }
    }

    fn ended(&mut self, choice: u32, finish: Finish) {
        self.finishes.note(choice, finish);
    }

    fn end(&mut self, ended: &Ended, cost: Cost, frames: &mut VecDeque<Bytes>) {
        let ends: Vec<_> = self.finishes.iter().collect();
        for (index, finish) in ends {
            frames.extend(self.say(index, "", &[], Some(finish_reason(finish, &ended.stats))));
        }
        if self.include_usage {
            frames.push_back(self.piece(Vec::new(), Some(Some(Usage::of(&ended.stats, cost)))));
        }
        frames.push_back(sse::DONE);
    }

    fn fail(&mut self, failure: &Failure, frames: &mut VecDeque<Bytes>) {
        frames.push_back(sse::text(&WORDS.tell(failure.clone()).event()));
    }
}

//! `POST /v1/completions`: a text goes on, without a conversation around it. OpenAI calls it legacy; editors that complete
//! code still use it.

use crate::{
    Gateway,
    body::Call,
    chat::{
        Begun, Named,
        answer::{Collected, FINGERPRINT, collect, finish_reason},
    },
    failure::Failure,
    headers,
    parameters::{OneOrMany, completion_request},
    sse,
    usage::Usage,
};
use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use contract::{chat::AnswerStats, ids::RequestId};
use futures::{future::try_join_all, stream};
use inference::{ChatMessage, ChatRole, Options, Output, TokenLogprob};
use serde::{Serialize, de::IgnoredAny};
use services::Completion;
use std::collections::{BTreeMap, VecDeque};

/// Prompts of one request.
const MOST_PROMPTS: usize = 64;
/// Tokens of an answer when the client says nothing, as OpenAI has it.
const DEFAULT_MAX_TOKENS: u32 = 16;

completion_request! {
    /// The body.
    pub struct CompletionRequest {
        prompt: OneOrMany,
        echo: Option<bool>,
        logprobs: Option<u8>,
        best_of: Option<u32>,
        suffix: Option<String>,
        #[serde(rename = "metadata")]
        _metadata: Option<IgnoredAny>,
    }
}

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

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<BodyChoice<'a>>,
    /// Outer `None`: it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct BodyChoice<'a> {
    text: &'a str,
    index: u32,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'a str>,
}

/// Log-probabilities in the older shape: columns instead of rows.
#[derive(Serialize)]
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
            offset += token.bytes.len();
        }
        Some(columns)
    }
}

pub async fn create(State(gateway): State<Gateway>, call: Call<CompletionRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored } = call;
    let request = actor.request();
    let (stream, options, echo) = (input.stream.unwrap_or(false), input.stream_options.unwrap_or_default(), input.echo.unwrap_or(false));
    let prompts = if echo { input.prompt.0.clone() } else { Vec::new() };
    let completions = input.into_completions()?;
    let choices = completions.first().map_or(1, |first| first.options.n.max(1));
    if stream && completions.len() > 1 {
        return Err(Failure::invalid(
            "prompt",
            "unsupported",
            "Several prompts can be completed, or one can be streamed, but not both at once.",
        ));
    }
    let begin = |completion| gateway.services.api.complete(&actor, completion);
    let generations = try_join_all(completions.into_iter().map(begin)).await.map_err(|error| Failure::of(error, request))?;
    let Some(named) = generations.first().map(Named::of) else {
        return Err(Failure::of(domain::Error::internal("a completion without a prompt"), request));
    };
    let mut generations = generations.into_iter();
    let mut response = match generations.next() {
        Some(generation) if stream => {
            let begun = Begun::wait(generation, request).await?;
            follow(begun, named.clone(), choices, options.include_usage.unwrap_or(false), prompts.first(), request)
        }
        first => {
            let all = first.into_iter().chain(generations).map(|generation| collect(generation, choices, request));
            answer(&try_join_all(all).await?, &named, choices, &prompts)
        }
    };
    headers::name_use(response.headers_mut(), &named.model, &named.usage);
    ignored.put(response.headers_mut());
    Ok(response)
}

fn answer(collected: &[Collected], named: &Named, choices: u32, prompts: &[String]) -> Response {
    let mut all = Vec::new();
    let mut sum = AnswerStats::default();
    let mut texts: Vec<Vec<String>> = Vec::new();
    for (number, part) in collected.iter().enumerate() {
        let echoed = prompts.get(number).map_or("", String::as_str);
        texts.push(part.choices.iter().map(|choice| format!("{echoed}{}", choice.text)).collect());
        sum.prompt_tokens += part.stats.prompt_tokens;
        sum.cached_tokens += part.stats.cached_tokens;
        sum.completion_tokens += part.stats.completion_tokens;
    }
    for ((number, part), texts) in (0..).zip(collected).zip(&texts) {
        for ((at, choice), text) in (0..).zip(&part.choices).zip(texts) {
            all.push(BodyChoice {
                text,
                index: number * choices + at,
                logprobs: Logprobs::of(&choice.logprobs, text.len() - choice.text.len()),
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
        usage: Some(Some(Usage::from(&sum))),
    };
    Json(body).into_response()
}

struct Following {
    begun: Begun,
    id: String,
    named: Named,
    include_usage: bool,
    request: RequestId,
    /// For each choice: how far its text came, and how it ended.
    choices: Vec<(usize, Option<inference::Finish>)>,
    frames: VecDeque<Bytes>,
    over: bool,
}

fn follow(begun: Begun, named: Named, choices: u32, include_usage: bool, echoed: Option<&String>, request: RequestId) -> Response {
    let ends = vec![(0, None); usize::try_from(choices).unwrap_or(1)];
    let id = named.id("cmpl");
    let mut following = Following { begun, id, named, include_usage, request, choices: ends, frames: VecDeque::new(), over: false };
    if let Some(prompt) = echoed {
        (0..choices).for_each(|index| following.say(index, prompt, &[], None));
    }
    sse::respond(stream::unfold(following, |mut following| async move {
        let frame = following.next().await?;
        Some((frame, following))
    }))
}

impl Following {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            match self.begun.next().await {
                Some(Output::Text { choice, text, logprobs }) => self.say(choice, &text, &logprobs, None),
                Some(Output::Ended { choice, finish }) => {
                    if let Some(choice) = usize::try_from(choice).ok().and_then(|at| self.choices.get_mut(at)) {
                        choice.1 = Some(finish);
                    }
                }
                Some(Output::End(ended)) => self.end(ended),
                Some(_) => {}
                None => self.over = true,
            }
        }
    }

    fn end(&mut self, ended: inference::Ended) {
        self.over = true;
        if let Some(error) = ended.error {
            self.frames.push_back(sse::text(&Failure::of(error, self.request).event()));
            return;
        }
        for (index, (_, finish)) in (0..).zip(self.choices.clone()) {
            self.say(index, "", &[], Some(finish_reason(finish, &ended.stats)));
        }
        if self.include_usage {
            let frame = self.chunk(Vec::new(), Some(Some(Usage::from(&ended.stats))));
            self.frames.push_back(frame);
        }
        self.frames.push_back(sse::DONE);
    }

    fn say(&mut self, index: u32, text: &str, logprobs: &[TokenLogprob], finish_reason: Option<&str>) {
        let Some(choice) = usize::try_from(index).ok().and_then(|at| self.choices.get_mut(at)) else { return };
        let logprobs = Logprobs::of(logprobs, choice.0);
        choice.0 += text.len();
        let frame = self.chunk(vec![BodyChoice { text, index, logprobs, finish_reason }], self.include_usage.then_some(None));
        self.frames.push_back(frame);
    }

    fn chunk(&self, choices: Vec<BodyChoice<'_>>, usage: Option<Option<Usage>>) -> Bytes {
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

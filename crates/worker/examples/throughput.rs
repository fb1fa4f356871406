//! Tokens per second of a model on this machine, one sequence and several at once.
//!
//! ```text
//! cargo run -p worker --example throughput -- MODEL.gguf [SLOTS [THREADS]]
//! ```
//! Compare only runs on an otherwise idle machine.

#![expect(clippy::disallowed_methods, reason = "every task is awaited below; an error ends the whole process")]

use std::io::Write;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker_protocol::{ChatMessage, ChatRole, Event, Generate, State, Status, Timings, Usage};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TOKEN: &str = "token-of-the-throughput-measurement";
const MODEL: &str = "measured";
const ANSWER_TOKENS: u32 = 64;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: throughput MODEL.gguf [SLOTS [THREADS]]")?;
    let mut options = worker::Options::new(path, MODEL, TOKEN);
    options.context_length = Some(4096);
    options.slots = arguments.next().map_or(Ok(4), |text| text.parse())?;
    if let Some(threads) = arguments.next() {
        options.threads = threads.parse()?;
    }
    let slots = options.slots;

    let (announce, hello) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let worker =
        tokio::spawn(worker::run_with(options, shutdown.clone(), |hello| announce.send(hello.addr.clone()).map_err(std::io::Error::other)));
    let base = format!("http://{}", hello.await?);
    let http = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build()?;
    ready(&http, &base).await?;

    let mut out = std::io::stdout();
    for parallel in [1, slots] {
        let began = Instant::now();
        let answers = (0..parallel).map(|n| {
            let (http, base) = (http.clone(), base.clone());
            tokio::spawn(async move { complete(&http, &base, n).await })
        });
        let answers: Vec<_> = answers.collect();
        let (mut tokens, mut prompt, mut prefill_ms, mut slowest_ms) = (0, 0, 0, 1);
        for answer in answers {
            let (usage, timings) = answer.await??;
            tokens += usage.completion_tokens;
            prompt += usage.prompt_tokens - usage.cached_tokens;
            prefill_ms = timings.prefill_ms.max(prefill_ms);
            slowest_ms = timings.decode_ms.max(slowest_ms);
        }
        let rate = |tokens: u32, ms: u32| f64::from(tokens) * 1000.0 / f64::from(ms.max(1));
        writeln!(
            out,
            "{parallel} at once: prompt {:.0} tok/s, decode {:.1} tok/s in all ({tokens} tokens, {:.1} s altogether)",
            rate(prompt, prefill_ms),
            rate(tokens, slowest_ms),
            began.elapsed().as_secs_f64()
        )?;
    }
    shutdown.cancel();
    drop(http);
    worker.await??;
    Ok(())
}

async fn ready(http: &reqwest::Client, base: &str) -> Result<(), Failure> {
    loop {
        let status: Status = http.get(format!("{base}/status")).bearer_auth(TOKEN).send().await?.json().await?;
        if status.state == State::Ready {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// One long answer to a prompt of some 500 tokens, in a partition of its own so that nothing is reused.
async fn complete(http: &reqwest::Client, base: &str, n: u32) -> Result<(Usage, Timings), Failure> {
    let question = format!("{}\nWrite a very long essay about the number {n}.", "the quick brown fox ".repeat(120));
    let request = Generate {
        id: Uuid::now_v7(),
        model: MODEL.into(),
        partition: Uuid::now_v7().to_string(),
        messages: vec![ChatMessage { role: ChatRole::User, content: question }],
        continue_last: false,
        sampling: contract::model::Sampling { max_tokens: Some(ANSWER_TOKENS), ..contract::model::Sampling::default() },
        stop: Vec::new(),
    };
    let answer = http.post(format!("{base}/generate")).bearer_auth(TOKEN).json(&request).send().await?.text().await?;
    match serde_json::from_str(answer.lines().last().unwrap_or_default())? {
        Event::Done { usage, timings, .. } => Ok((usage, timings)),
        other => Err(format!("{other:?}").into()),
    }
}

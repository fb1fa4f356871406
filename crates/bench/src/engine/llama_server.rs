//! llama.cpp's own server, through its OpenAI-compatible API.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use worker_protocol::TokenLogprob;

use super::{Answer, Ask, Drafts, Launcher, Needs, Tuning, client, lines, ready, spawn};
use crate::Result;

pub struct LlamaServer {
    child: Child,
    http: reqwest::Client,
    base: String,
    /// It tells of each answer only.
    drafted: AtomicU64,
    accepted: AtomicU64,
}

/// What is read of a streamed chunk.
#[derive(Debug, Default, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    timings: Option<Timings>,
    error: Option<Value>,
}

/// What is read of an answer that is not streamed.
#[derive(Debug, Deserialize)]
struct Whole {
    choices: Vec<WholeChoice>,
    timings: Timings,
}

#[derive(Debug, Deserialize)]
struct WholeChoice {
    message: Delta,
    logprobs: Option<Logprobs>,
}

#[derive(Debug, Deserialize)]
struct Logprobs {
    content: Vec<Token>,
}

#[derive(Debug, Deserialize)]
struct Token {
    id: i32,
    bytes: Vec<u8>,
    logprob: f32,
    /// None in these themselves.
    #[serde(default)]
    top_logprobs: Vec<Token>,
}

#[derive(Debug, Deserialize)]
struct Slot {
    is_processing: bool,
}

#[derive(Debug, Deserialize)]
struct Choice {
    delta: Delta,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Timings {
    #[serde(default)]
    cache_n: u64,
    prompt_n: u64,
    predicted_n: u64,
    /// Guessed ahead; left out where nothing was.
    #[serde(default)]
    draft_n: u64,
    #[serde(default)]
    draft_n_accepted: u64,
}

#[derive(Debug, Deserialize)]
struct Rendered {
    prompt: String,
}

#[derive(Debug, Deserialize)]
struct Tokenized {
    tokens: Vec<i32>,
}

impl LlamaServer {
    pub async fn start(launcher: &Launcher, tuning: Tuning, needs: Needs) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(&launcher.llama_server);
        command.arg("-m").arg(&launcher.model).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["-t", &launcher.threads.to_string(), "--jinja", "--no-webui"]);
        // One pool of cells, as large as ours.
        let slots = needs.slots.unwrap_or(needs.clients).clamp(1, 16);
        command.args(["-c", &needs.context.saturating_mul(slots.max(4)).to_string()]);
        if needs.slots.is_some() || tuning == Tuning::Tuned {
            command.args(["-np", &slots.to_string(), "--kv-unified"]);
        }
        if tuning == Tuning::Tuned {
            command.args(["-b", "128", "-ub", "128", "-fa", "off"]);
        }
        if needs.speculate {
            command.args(["--spec-type", "ngram-simple"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = spawn(&mut command, "kontor-bench-peer.log")?;
        let base = format!("http://127.0.0.1:{port}");
        let server = Self { child, http: client()?, base, drafted: AtomicU64::new(0), accepted: AtomicU64::new(0) };
        let health = format!("{}/health", server.base);
        ready("llama-server", async || server.http.get(&health).send().await.is_ok_and(|response| response.status().is_success())).await?;
        Ok(server)
    }

    pub fn drafts(&self) -> Drafts {
        Drafts { drafted: self.drafted.load(Relaxed), accepted: self.accepted.load(Relaxed) }
    }

    pub async fn is_busy(&self) -> Result<bool> {
        let slots: Vec<Slot> = self.http.get(format!("{}/slots", self.base)).send().await?.error_for_status()?.json().await?;
        Ok(slots.iter().any(|slot| slot.is_processing))
    }

    pub async fn ask(&self, ask: Ask, told: Option<mpsc::UnboundedSender<Instant>>) -> Result<Answer> {
        let mut body = json!({
            "messages": messages(&ask), "max_tokens": ask.max_tokens,
            "stream": true, "temperature": 0, "repeat_penalty": 1.0, "cache_prompt": true,
        });
        if let Some(schema) = ask.schema {
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}});
        }
        if ask.ignore_end {
            body["ignore_eos"] = true.into();
        }
        if let Some(alternatives) = ask.logprobs {
            return self.whole(body, alternatives).await;
        }
        let begin = Instant::now();
        let response = self.http.post(format!("{}/v1/chat/completions", self.base)).json(&body).send().await?;
        let mut answer = Answer::default();
        let mut drafts = Drafts::default();
        lines::read(response.error_for_status()?, |line| {
            let Some(data) = line.strip_prefix(b"data: ").filter(|data| *data != b"[DONE]") else { return Ok(()) };
            let chunk: Chunk = serde_json::from_slice(data)?;
            if let Some(error) = chunk.error {
                return Err(format!("llama-server failed: {error}").into());
            }
            let text: String = chunk.choices.into_iter().filter_map(|choice| choice.delta.content).collect();
            if !text.is_empty() {
                answer.text.push_str(&text);
                answer.at.push(begin.elapsed());
                if let Some(told) = &told {
                    // Nobody need listen.
                    let _ = told.send(Instant::now());
                }
            }
            if let Some(timings) = chunk.timings {
                answer.took = begin.elapsed();
                answer.prompt_tokens = timings.prompt_n + timings.cache_n;
                answer.evaluated_tokens = timings.prompt_n;
                answer.completion_tokens = timings.predicted_n;
                drafts = Drafts { drafted: timings.draft_n, accepted: timings.draft_n_accepted };
            }
            Ok(())
        })
        .await?;
        self.drafted.fetch_add(drafts.drafted, Relaxed);
        self.accepted.fetch_add(drafts.accepted, Relaxed);
        Ok(answer)
    }

    /// An answer with its tokens. A stream would leave out those that bring no text of their own.
    async fn whole(&self, mut body: Value, alternatives: u8) -> Result<Answer> {
        body["stream"] = false.into();
        body["logprobs"] = true.into();
        body["top_logprobs"] = alternatives.into();
        let begin = Instant::now();
        let Whole { choices, timings } = self.post("v1/chat/completions", &body).await?;
        let took = begin.elapsed();
        let WholeChoice { message, logprobs } = choices.into_iter().next().ok_or("llama-server made no answer")?;
        // The end is a token, too, but one without text.
        let tokens = logprobs.into_iter().flat_map(|logprobs| logprobs.content).filter(|token| !token.bytes.is_empty());
        let (tokens, logprobs) = tokens.map(|token| (token.id, TokenLogprob::from(token))).unzip();
        Ok(Answer {
            text: message.content.unwrap_or_default(),
            took,
            prompt_tokens: timings.prompt_n + timings.cache_n,
            evaluated_tokens: timings.prompt_n,
            completion_tokens: timings.predicted_n,
            logprobs,
            tokens,
            ..Answer::default()
        })
    }

    /// The tokens that a text is read as behind others.
    pub async fn tokens(&self, text: &str) -> Result<Vec<i32>> {
        let Tokenized { tokens } = self.post("tokenize", &json!({"content": text, "add_special": false, "parse_special": false})).await?;
        Ok(tokens)
    }

    /// The tokens of the prompt that it makes of the question, special ones included.
    pub async fn prompt(&self, ask: &Ask) -> Result<Vec<i32>> {
        let Rendered { prompt } = self.post("apply-template", &json!({"messages": messages(ask)})).await?;
        let body = json!({"content": prompt, "add_special": true, "parse_special": true});
        let Tokenized { tokens } = self.post("tokenize", &body).await?;
        Ok(tokens)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        Ok(self.http.post(format!("{}/{path}", self.base)).json(body).send().await?.error_for_status()?.json().await?)
    }

    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

impl From<Token> for TokenLogprob {
    fn from(token: Token) -> Self {
        let top = token.top_logprobs.into_iter().map(Self::from).collect();
        Self { bytes: token.bytes, logprob: token.logprob, top }
    }
}

fn messages(ask: &Ask) -> Vec<Value> {
    let system = ask.system.iter().map(|content| json!({"role": "system", "content": content}));
    let roles = ["user", "assistant"].into_iter().cycle();
    let turns = ask.turns.iter().zip(roles).map(|(content, role)| json!({"role": role, "content": content}));
    system.chain(turns).collect()
}

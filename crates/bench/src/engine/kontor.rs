//! Our worker, spoken to as the pool does.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use contract::model::Sampling;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use uuid::Uuid;
use worker_protocol::{ChatMessage, ChatRole, Event, FailCode, Format, Generate, Hello, SPIN, State, Status};

use super::{Answer, Ask, Drafts, Launcher, Needs, Refused, client, lines, ready, spawn};
use crate::Result;

const TOKEN: &str = "the-token-of-the-worker-that-is-measured";
const MODEL: &str = "model";

/// Where what was computed is kept over a restart.
pub fn state_dir() -> PathBuf {
    std::env::temp_dir().join(format!("kontor-bench-state-{}", std::process::id()))
}

pub struct Kontor {
    child: Child,
    /// The worker ends when it is closed.
    stdin: ChildStdin,
    http: reqwest::Client,
    base: String,
}

impl Kontor {
    pub async fn start(launcher: &Launcher, needs: Needs) -> Result<Self> {
        let mut command = Command::new(&launcher.kontor);
        command.arg("worker").arg("--model").arg(&launcher.model).args(["--model-id", MODEL]);
        command.args(["--threads", &launcher.threads.to_string(), "--context-length", &needs.context.to_string()]);
        let slots = needs.slots.unwrap_or(needs.clients).clamp(1, 16);
        command.args(["--slots", &slots.to_string()]);
        command.args(["--cells", &needs.context.saturating_mul(slots.max(4)).to_string()]);
        if needs.keep {
            command.arg("--state-dir").arg(state_dir());
        }
        if !needs.speculate {
            command.arg("--no-speculation");
        }
        command.envs([SPIN]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command, "kontor-bench-ours.log")?;
        let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or("the worker has no pipes")?;
        stdin.write_all(format!("{TOKEN}\n").as_bytes()).await?;
        stdin.flush().await?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let hello: Hello = serde_json::from_str(&line)?;
        let kontor = Self { child, stdin, http: client()?, base: format!("http://{}", hello.addr) };
        ready("the worker", async || kontor.status().await.is_ok_and(|status| status.state == State::Ready)).await?;
        Ok(kontor)
    }

    async fn status(&self) -> Result<Status> {
        Ok(self.http.get(format!("{}/status", self.base)).bearer_auth(TOKEN).send().await?.json().await?)
    }

    pub async fn is_busy(&self) -> Result<bool> {
        let status = self.status().await?;
        Ok(status.busy + status.queued > 0)
    }

    pub async fn drafts(&self) -> Result<Drafts> {
        let totals = self.status().await?.totals;
        Ok(Drafts { drafted: totals.drafted_tokens, accepted: totals.accepted_tokens })
    }

    pub async fn ask(&self, ask: Ask, told: Option<mpsc::UnboundedSender<Instant>>) -> Result<Answer> {
        let continue_last = ask.turns.len().is_multiple_of(2);
        let system = ask.system.map(|content| ChatMessage::new(ChatRole::System, content));
        let roles = [ChatRole::User, ChatRole::Assistant].into_iter().cycle();
        let turns = ask.turns.into_iter().zip(roles).map(|(content, role)| ChatMessage::new(role, content));
        let request = Generate {
            id: Uuid::now_v7(),
            model: MODEL.into(),
            partition: ask.tenant,
            messages: system.into_iter().chain(turns).collect(),
            continue_last,
            sampling: Sampling {
                temperature: Some(0.0),
                repeat_penalty: Some(1.0),
                max_tokens: Some(ask.max_tokens),
                ..Sampling::default()
            },
            format: ask.schema.map(Format::JsonSchema),
            ignore_end: ask.ignore_end,
            logprobs: ask.logprobs,
            ..Generate::default()
        };
        let begin = Instant::now();
        let response = self.http.post(format!("{}/generate", self.base)).bearer_auth(TOKEN).json(&request).send().await?;
        let mut answer = Answer::default();
        lines::read(response.error_for_status()?, |line| {
            match serde_json::from_slice(line)? {
                Event::Text { text, logprobs, .. } => {
                    answer.text.push_str(&text);
                    answer.logprobs.extend(logprobs);
                    answer.at.push(begin.elapsed());
                    if let Some(told) = &told {
                        // Nobody need listen.
                        let _ = told.send(Instant::now());
                    }
                }
                Event::Done { usage, .. } => {
                    answer.took = begin.elapsed();
                    answer.prompt_tokens = usage.prompt_tokens.into();
                    answer.evaluated_tokens = (usage.prompt_tokens - usage.cached_tokens).into();
                    answer.completion_tokens = usage.completion_tokens.into();
                }
                Event::Failed { code: FailCode::Overloaded, message, .. } => return Err(Refused(message).into()),
                Event::Failed { message, .. } => return Err(format!("the worker failed: {message}").into()),
                Event::Queued { .. }
                | Event::Started { .. }
                | Event::Reasoning { .. }
                | Event::ToolCall { .. }
                | Event::Vectors { .. }
                | Event::Ended { .. } => {}
            }
            Ok(())
        })
        .await?;
        Ok(answer)
    }

    pub async fn stop(mut self) -> Result<()> {
        drop(self.stdin);
        self.child.wait().await?;
        Ok(())
    }
}

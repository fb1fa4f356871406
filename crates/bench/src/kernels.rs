//! How much of a difference lies in the two versions of llama.cpp: `llama-bench` of both, in turns.

use std::path::Path;

use serde::Deserialize;
use tokio::process::Command;
use worker_protocol::SPIN;

use crate::Result;
use crate::report::median;

/// Turns; each measures both.
const TURNS: usize = 5;
/// Tokens of the prompt and of the answer that are measured.
const PROMPT: &str = "256";
const ANSWER: &str = "64";

#[derive(Deserialize)]
struct Reading {
    /// Tokens of the prompt; 0 where an answer was measured.
    n_prompt: u32,
    n_gen: u32,
    /// Tokens per second.
    avg_ts: f64,
}

/// How many times faster the peer's version is.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// In answers, one token after the other.
    pub answer: f64,
    /// In prompts.
    pub prompt: f64,
}

impl Kernels {
    /// Both are the same, or nobody knows.
    pub const EQUAL: Self = Self { answer: 1.0, prompt: 1.0 };

    /// What a ratio ours ÷ the peer's is multiplied by so that a faster build of the same library is no merit of either
    /// engine. Speeds are those of answers. Of the times to a first text, those count as the prompt's that are mostly
    /// spent on prompts; beside more clients than the peer has slots as it comes (four) they are spent on waiting for the
    /// answers of others. Everything else is no matter of kernels (tokens counted, a speed divided by the same engine's,
    /// a limit in seconds), or of another file than the one that was read.
    pub fn factor(self, scenario: &str, against: &str, clients: u32, metric: &str) -> f64 {
        match (scenario, metric) {
            (_, "tokens_per_s") => self.answer,
            ("chat", "ttft_p50") if against == "default" && clients > 4 => 1.0 / self.answer,
            ("chat" | "shared_prefix" | "stall" | "multi_turn" | "restart", metric) if metric.starts_with("ttft") => 1.0 / self.prompt,
            _ => 1.0,
        }
    }
}

/// Reads both in turns.
///
/// # Errors
/// One of the programs does not run.
pub async fn read(ours: &Path, peer: &Path, model: &Path, threads: u32) -> Result<Kernels> {
    let (mut answers, mut prompts) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        crate::quiet::wait().await?;
        let (ours, peer) = (speeds(ours, model, threads).await?, speeds(peer, model, threads).await?);
        eprintln!(
            "kernels, turn {turn} of {TURNS}: ours {:.1} tokens/s and {:.1} of a prompt, the peer's {:.1} and {:.1}",
            ours.answer, ours.prompt, peer.answer, peer.prompt
        );
        answers.push(peer.answer / ours.answer);
        prompts.push(peer.prompt / ours.prompt);
    }
    Ok(Kernels { answer: median(answers.into_iter()), prompt: median(prompts.into_iter()) })
}

/// Tokens per second.
struct Speeds {
    answer: f64,
    prompt: f64,
}

async fn speeds(program: &Path, model: &Path, threads: u32) -> Result<Speeds> {
    let mut command = Command::new(program);
    command.arg("-m").arg(model).args(["-t", &threads.to_string(), "-p", PROMPT, "-n", ANSWER, "-r", "3", "-o", "json"]);
    let output = command.envs([SPIN]).output().await?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    let readings: Vec<Reading> = serde_json::from_slice(&output.stdout)?;
    let answer = readings.iter().find(|reading| reading.n_gen > 0).ok_or("llama-bench measured no answer")?;
    let prompt = readings.iter().find(|reading| reading.n_prompt > 0 && reading.n_gen == 0).ok_or("llama-bench measured no prompt")?;
    Ok(Speeds { answer: answer.avg_ts, prompt: prompt.avg_ts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_freed_of_what_it_is_spent_on() {
        let kernels = Kernels { answer: 2.0, prompt: 4.0 };
        assert_eq!(kernels.factor("chat", "tuned", 8, "tokens_per_s"), 2.0);
        assert_eq!(kernels.factor("chat", "default", 1, "ttft_p50"), 0.25);
        assert_eq!(kernels.factor("chat", "default", 16, "ttft_p50"), 0.5);
        assert_eq!(kernels.factor("chat", "tuned", 16, "ttft_p50"), 0.25);
        assert_eq!(kernels.factor("stall", "default", 2, "ttft_long"), 0.25);
        assert_eq!(kernels.factor("fairness", "default", 51, "ttft_beside_alone"), 1.0);
        assert_eq!(kernels.factor("structured", "default", 1, "valid"), 1.0);
    }
}

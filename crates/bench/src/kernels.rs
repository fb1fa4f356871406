//! How much of a difference lies in the two versions of llama.cpp: `llama-bench` of both, in turns.

use std::path::Path;

use serde::Deserialize;
use tokio::process::Command;

use crate::Result;
use crate::report::median;

/// Turns; each measures both.
const TURNS: usize = 5;
/// Tokens of the prompt and of the answer that are measured.
const PROMPT: &str = "256";
const ANSWER: &str = "64";

#[derive(Deserialize)]
struct Reading {
    n_gen: u32,
    /// Tokens per second.
    avg_ts: f64,
}

/// How many times faster the peer's version is, in answers.
///
/// # Errors
/// One of the programs does not run.
pub async fn ratio(ours: &Path, peer: &Path, model: &Path, threads: u32) -> Result<f64> {
    let mut ratios = Vec::new();
    for turn in 1..=TURNS {
        crate::quiet::wait().await?;
        let (ours, peer) = (read(ours, model, threads).await?, read(peer, model, threads).await?);
        eprintln!("kernels, turn {turn} of {TURNS}: ours {ours:.1} tokens/s, the peer's {peer:.1}");
        ratios.push(peer / ours);
    }
    Ok(median(ratios.into_iter()))
}

async fn read(program: &Path, model: &Path, threads: u32) -> Result<f64> {
    let mut command = Command::new(program);
    command.arg("-m").arg(model).args(["-t", &threads.to_string(), "-p", PROMPT, "-n", ANSWER, "-r", "3", "-o", "json"]);
    let output = command.env("GOMP_SPINCOUNT", "1000").output().await?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    let readings: Vec<Reading> = serde_json::from_slice(&output.stdout)?;
    let answer = readings.iter().find(|reading| reading.n_gen > 0).ok_or("llama-bench measured no answer")?;
    Ok(answer.avg_ts)
}

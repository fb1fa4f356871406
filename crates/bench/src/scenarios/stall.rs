//! A long prompt arrives while an answer is being written: how long does the answer stand still, and what does that
//! cost the long prompt?

use std::time::Duration;

use tokio::sync::mpsc;

use super::warm_up;
use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::{prose, question};

const LONG: usize = 4_000;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let engine = launcher.start(kind, Needs { clients: 2, context: 8192, slots: None, speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let (told, mut hears) = mpsc::unbounded_channel();
    let reader = engine.ask_told(Ask { ignore_end: true, ..Ask::question(question(1), 2_000) }, Some(told));
    let long = async {
        // The answer is well under way.
        for _ in 0..16 {
            hears.recv().await.ok_or("the reader's answer ended early")?;
        }
        let ask = Ask { tenant: "other".into(), ..Ask::question(format!("{}\nSummarise this.", prose(3, LONG)), 8) };
        let answer = engine.ask(ask).await?;
        let mut moments = Vec::new();
        while let Ok(moment) = hears.try_recv() {
            moments.push(moment);
        }
        let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(answer.took);
        Ok::<(Duration, f64), Box<dyn std::error::Error + Send + Sync>>((gap, answer.ttft().as_secs_f64()))
    };
    let (gap, ttft) = tokio::select! {
        measured = long => measured?,
        ended = reader => return Err(format!("the reader's answer ended before the long prompt: {ended:?}").into()),
    };
    engine.stop().await?;
    Ok(vec![Figure::new(2, "gap_max", gap.as_secs_f64()), Figure::new(2, "ttft_long", ttft)])
}

//! Somebody closes the connection, in mid-answer or while a long prompt is computed: when is the slot free again?

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::warm_up;
use crate::Result;
use crate::engine::{Ask, Engine, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::{prose, question};

const TIMES: u64 = 8;
const LONG: usize = 4_000;
/// A prompt is being computed by then, and for long after.
const WELL_INTO: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(5);

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let engine = launcher.start(kind, Needs { clients: 2, context: 8192, slots: None, speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let (mut answering, mut computing) = (0.0_f64, 0.0_f64);
    for n in 0..TIMES {
        let (told, mut hears) = mpsc::unbounded_channel();
        let ask = Ask { ignore_end: true, ..Ask::question(question(usize::try_from(n)?), 2_000) };
        tokio::select! {
            ended = engine.ask_told(ask, Some(told)) => return Err(format!("the answer ended early: {ended:?}").into()),
            _ = async { for _ in 0..8 { hears.recv().await; } } => {}
        }
        answering = answering.max(until_idle(&engine).await?);
        let ask = Ask::question(format!("{}\nSummarise this.", prose(100 + n, LONG)), 8);
        tokio::select! {
            ended = engine.ask(ask) => return Err(format!("the long prompt was computed too fast: {ended:?}").into()),
            () = tokio::time::sleep(WELL_INTO) => {}
        }
        computing = computing.max(until_idle(&engine).await?);
    }
    engine.stop().await?;
    Ok(vec![Figure::new(1, "answer_to_free_max", answering), Figure::new(1, "prompt_to_free_max", computing)])
}

async fn until_idle(engine: &Engine) -> Result<f64> {
    let begin = Instant::now();
    while engine.is_busy().await? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(begin.elapsed().as_secs_f64())
}

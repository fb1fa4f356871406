//! A conversation goes on after the engine was restarted.

use super::warm_up;
use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs, state_dir};
use crate::report::Figure;
use crate::texts::prose;

const BEGINNING: usize = 2_000;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let needs = Needs { clients: 1, context: 4096, slots: None, speculate: false, keep: true };
    let engine = launcher.start(kind, needs).await?;
    warm_up(&engine).await?;
    let mut turns = vec![format!("{}\nWhat is this about?", prose(41, BEGINNING))];
    let first = engine.ask(Ask { turns: turns.clone(), ..Ask::question("", 24) }).await?;
    turns.extend([first.text.clone(), "And what follows from that?".into()]);
    engine.stop().await?;

    let engine = launcher.start(kind, needs).await?;
    warm_up(&engine).await?;
    let again = engine.ask(Ask { turns, ..Ask::question("", 24) }).await?;
    engine.stop().await?;
    if state_dir().exists() {
        std::fs::remove_dir_all(state_dir())?;
    }
    Ok(vec![
        Figure::new(1, "ttft", again.ttft().as_secs_f64()),
        Figure::new(1, "evaluated_per_prompt", super::number(again.evaluated_tokens) / super::number(again.prompt_tokens)),
    ])
}

//! One tenant floods the engine, another one asks a single question: how much longer does that take than alone?

use std::time::Duration;

use futures::future::join_all;

use super::warm_up;
use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::{prose, question};

const FLOOD: usize = 50;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let engine = launcher.start(kind, Needs { clients: 4, context: 2048, slots: None, speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let single = |seed| Ask { tenant: "quiet".into(), ..Ask::question(format!("{}\nWhat is this about?", prose(seed, 200)), 8) };
    let alone = engine.ask(single(41)).await?.ttft();
    let flood = join_all((0..FLOOD).map(|n| {
        let ask = Ask { tenant: "flood".into(), ignore_end: true, ..Ask::question(question(n), 64) };
        engine.ask(ask)
    }));
    let asked = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        engine.ask(single(42)).await
    };
    let (flooded, beside) = futures::join!(flood, asked);
    flooded.into_iter().collect::<Result<Vec<_>>>()?;
    engine.stop().await?;
    Ok(vec![Figure::new(51, "ttft_beside_alone", beside?.ttft().as_secs_f64() / alone.as_secs_f64())])
}

//! One tenant floods the engine, another one asks a single question: how much longer does that take than alone? Once with
//! as many requests as our engine lets wait, once with more: what is beyond the bound is refused to the one who floods,
//! and the other one is answered all the same.

use std::time::Duration;

use futures::future::join_all;

use super::{number, warm_up};
use crate::Result;
use crate::engine::{Answer, Ask, Kind, Launcher, Needs, Refused};
use crate::report::Figure;
use crate::texts::{prose, question};

const FLOODS: [u32; 2] = [50, 100];

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for flood in FLOODS {
        figures.extend(beside(launcher, kind, flood).await?);
    }
    Ok(figures)
}

async fn beside(launcher: &Launcher, kind: Kind, requests: u32) -> Result<[Figure; 2]> {
    let engine = launcher.start(kind, Needs { clients: 4, context: 2048, slots: None, speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let single = |seed| Ask { tenant: "quiet".into(), ..Ask::question(format!("{}\nWhat is this about?", prose(seed, 200)), 8) };
    let alone = engine.ask(single(41)).await?.ttft();
    let flood = join_all((0..usize::try_from(requests)?).map(|n| {
        let ask = Ask { tenant: "flood".into(), ignore_end: true, ..Ask::question(question(n), 64) };
        engine.ask(ask)
    }));
    let asked = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        engine.ask(single(42)).await
    };
    let (flooded, beside) = futures::join!(flood, asked);
    let refused = refused(flooded)?;
    let beside = beside.map_err(|error| format!("the quiet tenant was not answered beside a flood of {requests} requests: {error}"))?;
    engine.stop().await?;
    let longer = beside.ttft().as_secs_f64() / alone.as_secs_f64();
    Ok([Figure::new(requests + 1, "ttft_beside_alone", longer), Figure::new(requests + 1, "flood_refused", number(refused))])
}

/// How many were refused. Any other failure is one.
fn refused(outcomes: Vec<Result<Answer>>) -> Result<u64> {
    let mut refused = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => {}
            Err(error) if error.is::<Refused>() => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_and_failures_are_not() {
        let full = || -> Result<Answer> { Err(Refused("full".into()).into()) };
        let outcomes = || vec![Ok(Answer::default()), full(), full()];
        assert_eq!(refused(outcomes()).unwrap(), 2);
        let mut failed = outcomes();
        failed.push(Err("the worker failed".into()));
        assert!(refused(failed).is_err());
    }
}

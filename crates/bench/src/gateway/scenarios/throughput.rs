//! As many requests as 32 and 256 connections carry.

use std::time::Duration;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::load::Load;
use crate::gateway::sample::P99;
use crate::report::Figure;

const CONNECTIONS: [u32; 2] = [32, 256];
const LENGTH: Duration = Duration::from_secs(4);

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    let route = &turn.gateway.route;
    let body = route.body(PROMPT, false);
    let make = || route.request(&body);
    let mut figures = Vec::new();
    for connections in CONNECTIONS {
        let run = Load::new(route.addr(), &make).closed(usize::try_from(connections)?, LENGTH).await;
        let rate = run.rate();
        let sample = run.sample()?;
        figures.extend([Figure::new(connections, "requests_per_s", rate), Figure::new(connections, "p99_ms", sample.ms(P99))]);
    }
    Ok(figures)
}

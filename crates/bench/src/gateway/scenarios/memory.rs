//! Resident memory: before anything was asked, under load, and a minute after.

use std::time::Duration;

use tokio::time::sleep;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::load::Load;
use crate::gateway::peers::Memory;
use crate::gateway::sample::number;
use crate::report::Figure;

/// From the first answer until a fresh process has come to rest.
const REST: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 256;
const LOAD: Duration = Duration::from_secs(20);
const AFTERWARDS: Duration = Duration::from_secs(60);

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    sleep(REST).await;
    let idle = turn.gateway.memory()?;
    let route = &turn.gateway.route;
    let body = route.body(PROMPT, false);
    let make = || route.request(&body);
    Load::new(route.addr(), &make).closed(usize::try_from(CONNECTIONS)?, LOAD).await.sample()?;
    let loaded = turn.gateway.memory()?;
    sleep(AFTERWARDS).await;
    let rested = turn.gateway.memory()?;
    let own = |memory: Memory| mib(memory.own);
    let all = |memory: Memory| mib(memory.all);
    Ok(vec![
        Figure::new(CONNECTIONS, "idle_mib", own(idle)),
        Figure::new(CONNECTIONS, "loaded_mib", own(loaded)),
        Figure::new(CONNECTIONS, "rested_mib", own(rested)),
        Figure::new(CONNECTIONS, "rested_per_idle", own(rested) / own(idle)),
        Figure::new(CONNECTIONS, "idle_mib_all_processes", all(idle)),
        Figure::new(CONNECTIONS, "loaded_mib_all_processes", all(loaded)),
        Figure::new(CONNECTIONS, "rested_mib_all_processes", all(rested)),
    ])
}

fn mib(bytes: u64) -> f64 {
    number(bytes) / 1024.0 / 1024.0
}

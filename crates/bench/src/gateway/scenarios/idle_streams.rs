//! Streams that have begun and say nothing more, as many as files may be open: what does each of them take?

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio::time::sleep;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::client::{Caller, Route};
use crate::gateway::proc;
use crate::gateway::sample::number;
use crate::gateway::streamed::Events;
use crate::gateway::upstream::Script;
use crate::report::Figure;

const STREAMS: u32 = 9_000;
/// Files that are open beside the two of each stream: the client's and the upstream's are ours, as are two of the gateway.
const OTHER_FILES: u64 = 500;
/// Connections that are made at the same time; more would overflow the queues of those who accept.
const AT_A_TIME: usize = 64;
/// What is open by then is what is measured.
const PATIENCE: Duration = Duration::from_secs(90);
/// Memory comes to rest.
const REST: Duration = Duration::from_secs(3);

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    turn.upstreams.usual.play(Script::Silent);
    let wanted = u32::try_from(proc::open_files()?.saturating_sub(OTHER_FILES) / 2).unwrap_or(u32::MAX).min(STREAMS);
    sleep(REST).await;
    let before = turn.gateway.memory()?;
    let begin = Instant::now();
    let opening = stream::iter(0..wanted).map(|_| open(&turn.gateway.route)).buffer_unordered(AT_A_TIME);
    let streams: Vec<Result<Caller>> = opening.take_until(sleep(PATIENCE)).collect().await;
    let took = begin.elapsed();
    let (streams, failures): (Vec<_>, Vec<_>) = streams.into_iter().partition(Result::is_ok);
    if streams.is_empty() {
        let failure = failures.into_iter().find_map(Result::err);
        return Err(format!("no stream could be opened: {}", failure.map_or_else(String::new, |error| error.to_string())).into());
    }
    sleep(REST).await;
    let after = turn.gateway.memory()?;
    let count = number(u64::try_from(streams.len())?);
    let each = |before: u64, after: u64| number(after.saturating_sub(before)) / 1024.0 / count;
    Ok(vec![
        Figure::new(wanted, "streams_opened", count),
        Figure::new(wanted, "opened_per_s", count / took.as_secs_f64()),
        Figure::new(wanted, "kib_per_stream", each(before.own, after.own)),
        Figure::new(wanted, "kib_per_stream_all_processes", each(before.all, after.all)),
    ])
}

/// Waits for the first piece of text, so that the stream has gone all the way. It is open as long as the caller lives.
async fn open(route: &Route) -> Result<Caller> {
    let (body, mut caller) = (route.body(PROMPT, true), Caller::new(route.addr()));
    let status = caller.send(&|| route.request(&body)).await?;
    if !status.is_success() {
        return Err(format!("HTTP status {status}").into());
    }
    let (mut events, mut came) = (Events::default(), 0);
    while came == 0 {
        if !caller.more(|bytes| came += events.take(bytes)).await? {
            return Err("the stream ended".into());
        }
    }
    Ok(caller)
}

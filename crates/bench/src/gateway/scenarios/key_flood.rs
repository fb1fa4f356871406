//! Random keys that nobody knows, as fast as they are refused: what does a refusal cost, does anything reach the
//! upstream, and what does whoever has a key notice of it?

use std::cell::RefCell;
use std::time::Duration;

use reqwest::StatusCode;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::baseline::one_by_one;
use crate::gateway::client::Route;
use crate::gateway::load::{Load, Run};
use crate::gateway::proc;
use crate::gateway::sample::{P50, P99, number};
use crate::gateway::upstream::Script;
use crate::report::Figure;
use crate::texts::Random;

const CONNECTIONS: u32 = 8;
const LENGTH: Duration = Duration::from_secs(4);

/// What Kontor's keys begin with, and those of others with its first three characters.
const PREFIX: &str = "sk-kontor-";
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of a key of 32 bytes.
const KEY_CHARS: usize = 43;

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    let route = &turn.gateway.route;
    let pid = turn.gateway.pid()?;
    turn.upstreams.usual.play(Script::AtOnce);
    let before = proc::processor_time(pid)?;
    let flooded = flood(route, 1).await;
    let taken = proc::processor_time(pid)?.saturating_sub(before);
    let passed = turn.upstreams.usual.asked();
    let refused = number(u64::try_from(flooded.answers())?);
    let rate = flooded.rate();
    let refusals = flooded.sample()?;

    let alone = one_by_one(route, PROMPT, LENGTH).await?;
    let (beside, _) = futures::join!(one_by_one(route, PROMPT, LENGTH), flood(route, 2));
    let beside = beside?;
    Ok(vec![
        Figure::new(CONNECTIONS, "refusals_per_s", rate),
        Figure::new(CONNECTIONS, "cpu_us_per_refusal", taken.as_secs_f64() * 1e6 / refused),
        Figure::new(CONNECTIONS, "wall_us_per_refusal", 1e6 / rate),
        Figure::new(CONNECTIONS, "refusal_p50_us", refusals.us(P50)),
        Figure::new(CONNECTIONS, "passed_upstream", number(passed)),
        Figure::new(CONNECTIONS, "valid_p50_beside_alone", beside.us(P50) / alone.us(P50)),
        Figure::new(CONNECTIONS, "valid_p99_beside_alone", beside.us(P99) / alone.us(P99)),
    ])
}

/// Each request has a key of its own, of the form of real ones.
async fn flood(route: &Route, seed: u64) -> Run {
    let body = route.body(PROMPT, false);
    let random = RefCell::new(Random::new(seed));
    let make = || route.request_with_key(&body, &key(&mut random.borrow_mut()));
    let refused = |status: StatusCode| status.is_client_error();
    Load { addr: route.addr(), make: &make, wanted: refused }.closed(usize::try_from(CONNECTIONS).unwrap_or(1), LENGTH).await
}

fn key(random: &mut Random) -> String {
    let mut key = String::from(PREFIX);
    for _ in 1..KEY_CHARS {
        key.push(char::from(LETTERS[random.below(LETTERS.len())]));
    }
    // 43 characters hold two bits more than 32 bytes; they must be zero.
    key.push('A');
    key
}

#[cfg(test)]
mod tests {
    use super::{KEY_CHARS, PREFIX, Random, key};

    #[test]
    fn keys_look_like_real_ones_and_differ() {
        let mut random = Random::new(1);
        let (one, two) = (key(&mut random), key(&mut random));
        assert_ne!(one, two);
        assert_eq!(one.strip_prefix(PREFIX).unwrap().len(), KEY_CHARS);
    }
}

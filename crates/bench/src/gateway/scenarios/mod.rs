//! What is measured. Each scenario gets a gateway that was started for it and returns its figures.

mod added_latency;
mod big_prompts;
mod failover;
mod half_load;
mod idle_streams;
mod key_flood;
mod memory;
mod streams;
mod throughput;

use std::time::Duration;

use super::client::Route;
use super::load::Load;
use super::peers::{Kind, Running, Upstreams};
use crate::Result;
use crate::report::Figure;

/// What everybody asks where the question does not matter.
const PROMPT: &str = "Which bridges does the council repair this winter, and in which order?";
/// The load before a measurement: compilers at run time, connection pools and caches have begun by its end.
const WARM_UP: Duration = Duration::from_millis(1_500);
const WARM_UP_CONNECTIONS: usize = 4;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    AddedLatency,
    Throughput,
    HalfLoad,
    Streams,
    IdleStreams,
    Memory,
    BigPrompts,
    KeyFlood,
    Failover,
}

/// A gateway's turn.
pub struct Turn<'a> {
    pub upstreams: &'a Upstreams,
    pub gateway: &'a Running,
    /// To the upstream itself.
    pub direct: &'a Route,
}

impl Turn<'_> {
    /// The way measured is the direct one.
    fn is_direct(&self) -> bool {
        self.gateway.kind() == Kind::Direct
    }

    /// Loads the gateway for a moment. What fails is seen when it counts.
    pub async fn warm_up(&self) {
        let route = &self.gateway.route;
        let body = route.body(PROMPT, false);
        Load::new(route.addr(), &|| route.request(&body)).closed(WARM_UP_CONNECTIONS, WARM_UP).await;
    }
}

impl Scenario {
    /// All, in the order in which they run.
    pub const ALL: [Self; 9] = [
        Self::AddedLatency,
        Self::Throughput,
        Self::HalfLoad,
        Self::Streams,
        Self::BigPrompts,
        Self::KeyFlood,
        Self::Failover,
        Self::IdleStreams,
        Self::Memory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AddedLatency => "added_latency",
            Self::Throughput => "throughput",
            Self::HalfLoad => "half_load",
            Self::Streams => "streams",
            Self::IdleStreams => "idle_streams",
            Self::Memory => "memory",
            Self::BigPrompts => "big_prompts",
            Self::KeyFlood => "key_flood",
            Self::Failover => "failover",
        }
    }

    /// It makes sense for this gateway.
    pub fn suits(self, kind: Kind) -> bool {
        match self {
            Self::AddedLatency | Self::Throughput | Self::Streams | Self::BigPrompts => true,
            Self::KeyFlood => kind.checks_keys(),
            Self::HalfLoad | Self::IdleStreams | Self::Memory | Self::Failover => kind != Kind::Direct,
        }
    }

    /// The gateway has worked before.
    pub fn wants_warmth(self) -> bool {
        self != Self::Memory
    }

    /// Measures.
    ///
    /// # Errors
    /// Too much failed for the figures to mean anything.
    pub async fn run(self, turn: &Turn<'_>) -> Result<Vec<Figure>> {
        match self {
            Self::AddedLatency => added_latency::run(turn).await,
            Self::Throughput => throughput::run(turn).await,
            Self::HalfLoad => half_load::run(turn).await,
            Self::Streams => streams::run(turn).await,
            Self::IdleStreams => idle_streams::run(turn).await,
            Self::Memory => memory::run(turn).await,
            Self::BigPrompts => big_prompts::run(turn).await,
            Self::KeyFlood => key_flood::run(turn).await,
            Self::Failover => failover::run(turn).await,
        }
    }
}

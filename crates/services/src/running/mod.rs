//! What the server makes to its end, whoever watches: turns of chats and responses to programs have this in common.

pub(crate) mod follow;
pub(crate) mod hub;
pub(crate) mod runner;

use std::time::Duration;

/// Sign of life of a node for each thing that it makes.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// A node that has been silent for this long, in seconds, is gone. Three heartbeats.
pub(crate) const DEAD_AFTER_SECONDS: u32 = 15;
/// Pauses between tries to store an end. After the last one it is left to recovery.
pub(crate) const FINISH_PAUSES_MS: [u64; 8] = [0, 100, 300, 1_000, 2_000, 4_000, 8_000, 15_000];

//! The size of steps for requests with a seed, over a restart.
//!
//! It is chosen from what steps cost, see [`super::super::batch::budget::steady`], and measuring is never quite the same.
//! Another size may give another answer, so the one of before is taken as long as it is about right.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, Kept};

const STEP: &str = "step.json";

#[derive(Serialize, Deserialize)]
struct Step {
    fingerprint: Fingerprint,
    threads: u32,
    tokens: usize,
}

impl Kept {
    /// The size of before the restart, if `measured` is next to it or the same; else `measured`.
    pub fn step(&self, threads: u32, measured: usize) -> usize {
        match self.known_step(threads) {
            Some(known) if (known / 2..=known.saturating_mul(2)).contains(&measured) => known,
            // Something else was computed during the measurement; that passes.
            Some(known) if measured < known => measured,
            _ => {
                if let Err(error) = self.keep_step(threads, measured) {
                    tracing::warn!(%error, "the size of steps for seeds is not kept");
                }
                measured
            }
        }
    }

    fn known_step(&self, threads: u32) -> Option<usize> {
        // What cannot be read is measured again.
        let step: Step = serde_json::from_slice(&fs::read(self.folder.join(STEP)).ok()?).ok()?;
        (step.fingerprint == self.fingerprint && step.threads == threads).then_some(step.tokens)
    }

    fn keep_step(&self, threads: u32, tokens: usize) -> io::Result<()> {
        let step = Step { fingerprint: self.fingerprint.clone(), threads, tokens };
        Ok(serde_json::to_writer(self.create(STEP)?, &step)?)
    }
}

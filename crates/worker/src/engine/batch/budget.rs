//! How many tokens a step may take.
//!
//! A step cannot be interrupted, so its length is the longest that a neighbour waits for its next token and
//! that a cancelled sequence keeps its slot. The budget therefore aims at a duration, from the measured cost
//! of a token on this machine with this model.

use std::time::Duration;

/// A step in which somebody's answer is being written.
const WITH_READERS: Duration = Duration::from_millis(240);
/// A step of nothing but prompts. Not longer either: so long does a cancelled one hold its place.
const PREFILL_ONLY: Duration = Duration::from_millis(260);
/// A step takes at least this many times what reading the weights costs: on a slow or busy machine, steps as
/// short as wished would do nothing else.
const WORTH_IT: f64 = 2.5;
/// So much of a step's time is left to each of two contexts whose steps alternate.
const HALF: f64 = 0.5;
/// Behind each further so many tokens a step whose size is fixed is about twice as dear on a processor.
const DEEP: usize = 2048;
/// Prompt tokens that a step takes in any case.
const SMALLEST: usize = 16;
/// Weight of the newest measurement.
const NEWEST: f64 = 0.3;

/// Learns what a step costs: a fixed part (the weights are read once) and a part per token.
pub struct Budget {
    most: usize,
    /// Steps are of this size whatever they cost.
    fixed_size: Option<usize>,
    /// Seconds; `None` until measured.
    fixed: Option<f64>,
    per_token: Option<f64>,
    /// Steps of another context come between its own.
    alternates: bool,
}

impl Budget {
    /// `most`: tokens that fit into one batch.
    pub fn new(most: usize) -> Self {
        Self { most, fixed_size: None, fixed: None, per_token: None, alternates: false }
    }

    /// Steps of `tokens` whatever they cost.
    pub fn fixed(tokens: usize) -> Self {
        Self { fixed_size: Some(tokens), ..Self::new(tokens) }
    }

    /// Whether steps of another context come between those to follow: then both together take the time of one.
    pub fn alternate(&mut self, alternates: bool) {
        self.alternates = alternates;
    }

    /// Records a step. A small one shows the fixed part, a large one the part per token.
    pub fn observe(&mut self, tokens: usize, took: Duration) {
        let took = took.as_secs_f64();
        if tokens < SMALLEST {
            #[expect(clippy::cast_precision_loss, reason = "batches are small")]
            let variable = self.per_token.unwrap_or(0.0) * tokens as f64;
            // Never less than a fifth of it, whatever a token cost last time.
            self.fixed = Some(blend(self.fixed, (took - variable).max(took / 5.0)));
        } else {
            // Never less than a tenth of it, whatever the fixed part was last time.
            let variable = (took - self.fixed.unwrap_or(0.0)).max(took / 10.0);
            #[expect(clippy::cast_precision_loss, reason = "batches are small")]
            let measured = variable / tokens as f64;
            self.per_token = Some(blend(self.per_token, measured));
        }
    }

    /// What one more token adds to a step with `readers` running answers, as a part of what the step costs
    /// anyway per answer; a guessed token that is right less often than that is not worth it. 1 if unknown.
    pub fn price_of_guess(&self, readers: usize) -> f64 {
        let (Some(fixed), Some(per_token)) = (self.fixed, self.per_token) else { return 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let readers = readers.max(1) as f64;
        readers * per_token / (fixed + readers * per_token).max(1e-9)
    }

    /// Tokens for the next step, those of `readers` running answers included.
    pub fn tokens(&self, readers: usize) -> usize {
        if let Some(tokens) = self.fixed_size {
            return tokens;
        }
        let wished = if readers > 0 { WITH_READERS } else { PREFILL_ONLY }.as_secs_f64() * if self.alternates { HALF } else { 1.0 };
        let fixed = self.fixed.unwrap_or(0.0);
        let left = wished.max(fixed * WORTH_IT) - fixed;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and clamped below")]
        let affordable = self.per_token.map_or(SMALLEST, |cost| (left / cost.max(1e-7)) as usize);
        affordable.clamp(readers + SMALLEST, self.most.max(readers + SMALLEST))
    }
}

/// The largest power of two, at most `most`, of tokens that a step may have which comes between those of other answers, for
/// steps that shall not depend on what was measured in between. From the quickest step of one token and the quickest of
/// `several.0`: what disturbs a measurement only makes it longer, and between two powers of two lies so much that one
/// machine comes to the same size each time, unless its costs lie just at an edge.
pub fn steady(one: Duration, several: (usize, Duration), most: usize) -> usize {
    let one = one.as_secs_f64();
    let more = (several.1.as_secs_f64() - one).max(0.0);
    let wished = (WITH_READERS.as_secs_f64() * HALF).max(one * WORTH_IT);
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    let fits = |tokens: usize| one + more * (tokens - 1) as f64 / (several.0 - 1) as f64 <= wished;
    let mut size = 1;
    while size * 2 <= most && fits(size * 2) {
        size *= 2;
    }
    size
}

/// What is left of such a size behind `depth` tokens: by the place alone, so that a prompt is cut the same way each time.
pub fn behind(size: usize, depth: usize) -> usize {
    (size / (1 + depth / DEEP).next_power_of_two()).max(1)
}

fn blend(known: Option<f64>, measured: f64) -> f64 {
    known.map_or(measured, |known| NEWEST * measured + (1.0 - NEWEST) * known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(fixed_ms: u64, per_token_us: u64) -> Budget {
        let mut budget = Budget::new(256);
        for tokens in [1, 32, 1, 32, 64, 128, 1, 64] {
            budget.observe(tokens, Duration::from_micros(fixed_ms * 1000 + per_token_us * tokens as u64));
        }
        budget
    }

    #[test]
    fn slow_machines_take_small_steps_and_fast_ones_fill_the_batch() {
        let slow = after(40, 5_000);
        assert!((32..=42).contains(&slow.tokens(1)), "{}", slow.tokens(1));
        assert!(slow.tokens(0) > slow.tokens(1));
        assert_eq!(after(1, 10).tokens(1), 256);
    }

    #[test]
    fn steps_do_not_shrink_to_nothing_where_each_is_expensive() {
        // A second for reading the weights, as on a machine with busy neighbours.
        let tokens = after(1_000, 20_000).tokens(1);
        assert!((60..=80).contains(&tokens), "{tokens}");
    }

    #[test]
    fn guessing_is_cheap_while_reading_the_weights_dominates() {
        assert!((0.10..=0.20).contains(&after(30, 5_000).price_of_guess(1)), "{}", after(30, 5_000).price_of_guess(1));
        assert!(after(30, 5_000).price_of_guess(16) > 0.6);
        assert_eq!(Budget::new(256).price_of_guess(1), 1.0);
    }

    #[test]
    fn steady_steps_are_powers_of_two_within_the_time() {
        let size = |one, sixteen| steady(Duration::from_millis(one), (16, Duration::from_millis(sixteen)), 32);
        assert_eq!(size(10, 40), 32);
        // 16 tokens would take 160 ms, and a little more or less changes nothing.
        assert_eq!((size(10, 160), size(12, 140), size(9, 190)), (8, 8, 8));
        assert_eq!(size(40, 1_000), 2);
        assert_eq!(size(100, 50), 32, "what cannot be is no reason to fail");
        // Steps of one token would do nothing but read the weights.
        assert_eq!(size(1_000, 1_300), 32);
        assert_eq!(size(1_000, 4_000), 8);
        assert_eq!(steady(Duration::from_millis(1), (16, Duration::from_millis(2)), 24), 16, "no more than fit");
    }

    #[test]
    fn two_contexts_share_the_time_of_a_step() {
        let mut budget = after(10, 2_000);
        let whole = budget.tokens(1);
        budget.alternate(true);
        assert!((whole * 2 / 5..=whole / 2).contains(&budget.tokens(1)), "{} of {whole}", budget.tokens(1));
        budget.alternate(false);
        assert_eq!(budget.tokens(1), whole);
    }

    #[test]
    fn fixed_steps_are_smaller_where_each_token_looks_at_more() {
        assert_eq!([0, 2_047, 2_048, 4_095, 4_096, 9_000].map(|depth| behind(32, depth)), [32, 32, 16, 16, 8, 4]);
        assert_eq!(behind(2, 100_000), 1);
    }

    #[test]
    fn a_step_always_advances_prefill_beside_the_readers() {
        assert_eq!(after(10, 900_000).tokens(4), 4 + SMALLEST);
        assert_eq!(Budget::new(256).tokens(4), 4 + SMALLEST);
    }
}

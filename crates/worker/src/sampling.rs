//! Choosing the next token from the model's scores.
//!
//! Order: bias, penalties, top-k, typical, top-p, min-p, temperature, draw. Done here rather than in llama.cpp
//! because one pass over the scores is enough, and because the same seed must give the same draw on every
//! platform. (The scores themselves differ in the last digits with how a prompt is cut into steps and with
//! who else is in a step, so a seed repeats an answer only where no two tokens are close.)

use std::collections::{HashMap, VecDeque};

use contract::model::Sampling;

/// What applies where a request says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalty looks at.
    pub repeat_window: usize,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { temperature: 0.7, top_p: 0.8, top_k: 20, min_p: 0.0, repeat_penalty: 1.05, repeat_window: 64 }
    }
}

impl Defaults {
    /// The recommendations that a GGUF file carries under `general.sampling.*`; what it lacks or spoils
    /// stays as in [`Defaults::default`].
    pub fn from_metadata(value: impl Fn(&str) -> Option<String>) -> Self {
        fn read<T: std::str::FromStr>(text: Option<String>, ok: impl Fn(&T) -> bool, default: T) -> T {
            text.and_then(|text| text.trim().parse().ok()).filter(ok).unwrap_or(default)
        }
        let value = |key: &str| value(&format!("general.sampling.{key}"));
        let d = Self::default();
        Self {
            temperature: read(value("temp"), |v| (0.0..=2.0).contains(v), d.temperature),
            top_p: read(value("top_p"), |v| (0.0..=1.0).contains(v), d.top_p),
            top_k: read(value("top_k"), |_| true, d.top_k),
            min_p: read(value("min_p"), |v| (0.0..=1.0).contains(v), d.min_p),
            repeat_penalty: read(value("penalty_repeat"), |v| *v > 0.0 && *v <= 2.0, d.repeat_penalty),
            repeat_window: read(value("penalty_last_n"), |v| *v <= 4096, d.repeat_window),
        }
    }
}

/// Checked parameters of one completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: usize,
    pub min_p: f32,
    /// Locally typical sampling (Meister et al. 2023); 1 is off.
    pub typical_p: f32,
    pub repeat_penalty: f32,
    pub repeat_window: usize,
    pub frequency_penalty: f32,
    pub presence_penalty: f32,
    pub seed: u32,
    /// Longest completion in tokens; `None`: until the context is full.
    pub max_tokens: Option<u32>,
}

impl Params {
    /// Fills in the defaults.
    ///
    /// # Errors
    /// A sentence that names the first value out of range.
    pub fn resolve(asked: &Sampling, defaults: &Defaults, random_seed: u32) -> Result<Self, String> {
        fn within(name: &str, value: Option<f32>, low: f32, high: f32, default: f32) -> Result<f32, String> {
            match value {
                None => Ok(default),
                Some(value) if (low..=high).contains(&value) => Ok(value),
                Some(value) => Err(format!("{name} must be {low} to {high}, is {value}")),
            }
        }
        if asked.max_tokens == Some(0) {
            return Err("max_tokens must be at least 1".into());
        }
        Ok(Self {
            temperature: within("temperature", asked.temperature, 0.0, 2.0, defaults.temperature)?,
            top_p: within("top_p", asked.top_p, 0.0, 1.0, defaults.top_p)?,
            top_k: usize::try_from(asked.top_k.unwrap_or(defaults.top_k)).unwrap_or(usize::MAX),
            min_p: within("min_p", asked.min_p, 0.0, 1.0, defaults.min_p)?,
            typical_p: within("typical_p", asked.typical_p, 0.0, 1.0, 1.0)?,
            repeat_penalty: within("repeat_penalty", asked.repeat_penalty, 0.01, 2.0, defaults.repeat_penalty)?,
            repeat_window: defaults.repeat_window,
            frequency_penalty: within("frequency_penalty", asked.frequency_penalty, -2.0, 2.0, 0.0)?,
            presence_penalty: within("presence_penalty", asked.presence_penalty, -2.0, 2.0, 0.0)?,
            seed: asked.seed.unwrap_or(random_seed),
            max_tokens: asked.max_tokens,
        })
    }
}

/// One completion's chooser: its parameters, its randomness and the tokens it has seen.
pub struct Sampler {
    params: Params,
    random: SplitMix,
    recent: VecDeque<i32>,
    /// How often the completion has each token, for the frequency and presence penalties.
    said: HashMap<i32, f32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    token: i32,
    score: f32,
}

impl Sampler {
    pub fn new(params: Params) -> Self {
        let random = SplitMix(u64::from(params.seed));
        Self { params, random, recent: VecDeque::new(), said: HashMap::new() }
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Tells it a token of the completion.
    pub fn accept(&mut self, token: i32) {
        self.remember(token);
        if self.params.frequency_penalty != 0.0 || self.params.presence_penalty != 0.0 {
            *self.said.entry(token).or_default() += 1.0;
        }
    }

    /// Tells it a token of the prompt, which only the repetition penalty looks at.
    pub fn remember(&mut self, token: i32) {
        if self.params.repeat_window == 0 {
            return;
        }
        if self.recent.len() == self.params.repeat_window {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// The next token. `scores` (one logit per token of the vocabulary) is scratch space afterwards.
    /// `None` if no score is a number, which means that the computation broke.
    pub fn choose(&mut self, scores: &mut [f32]) -> Option<i32> {
        self.penalise(scores);
        self.choose_again(scores)
    }

    /// [`Sampler::choose`] among scores that are penalised already, after some were ruled out.
    pub fn choose_again(&mut self, scores: &[f32]) -> Option<i32> {
        if self.params.temperature <= 0.0 {
            return best(scores).map(|candidate| candidate.token);
        }
        let mut candidates = if self.params.top_k == 0 { likely(scores, self.params.temperature) } else { top(scores, self.params.top_k) };
        candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.token.cmp(&b.token)));
        if self.params.typical_p < 1.0 {
            keep_typical(&mut candidates, self.params.typical_p);
        }
        self.narrow(&mut candidates);
        self.draw(&candidates)
    }

    fn penalise(&self, scores: &mut [f32]) {
        for (token, count) in &self.said {
            if let Some(score) = usize::try_from(*token).ok().and_then(|at| scores.get_mut(at)) {
                *score -= count * self.params.frequency_penalty + self.params.presence_penalty;
            }
        }
        let penalty = self.params.repeat_penalty;
        if (penalty - 1.0).abs() < f32::EPSILON {
            return;
        }
        let mut seen: Vec<i32> = self.recent.iter().copied().collect();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(score) = usize::try_from(token).ok().and_then(|at| scores.get_mut(at)) {
                *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
            }
        }
    }

    /// Cuts the sorted candidates by top-p and min-p; the best one always stays.
    fn narrow(&self, candidates: &mut Vec<Candidate>) {
        let Some(highest) = candidates.first().map(|c| c.score) else { return };
        let weights: Vec<f32> = candidates.iter().map(|c| (c.score - highest).exp()).collect();
        let total: f32 = weights.iter().sum();
        let (mut mass, mut keep) = (0.0, 0);
        for weight in &weights {
            // Weights are relative to the best candidate, exactly what min-p compares with.
            if keep > 0 && (mass >= self.params.top_p * total || *weight < self.params.min_p) {
                break;
            }
            mass += weight;
            keep += 1;
        }
        candidates.truncate(keep);
    }

    fn draw(&mut self, candidates: &[Candidate]) -> Option<i32> {
        let highest = candidates.first()?.score;
        let weights: Vec<f64> = candidates.iter().map(|c| f64::from((c.score - highest) / self.params.temperature).exp()).collect();
        let mut left = self.random.unit() * weights.iter().sum::<f64>();
        for (candidate, weight) in candidates.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return Some(candidate.token);
            }
        }
        candidates.last().map(|c| c.token)
    }
}

/// Keeps the candidates whose surprise is nearest to the expected one until they have the mass `p`; they stay
/// sorted by score.
fn keep_typical(candidates: &mut Vec<Candidate>, p: f32) {
    let Some(highest) = candidates.first().map(|c| c.score) else { return };
    let weights: Vec<f32> = candidates.iter().map(|c| (c.score - highest).exp()).collect();
    let total: f32 = weights.iter().sum();
    let surprise = |candidate: &Candidate| highest + total.ln() - candidate.score;
    let entropy: f32 =
        candidates.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0).map(|(c, weight)| weight / total * surprise(c)).sum();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| {
        let distance = |at: &usize| (surprise(&candidates[*at]) - entropy).abs();
        distance(a).total_cmp(&distance(b))
    });
    let mut mass = 0.0;
    let mut kept: Vec<usize> = order
        .into_iter()
        .take_while(|at| {
            let enough = mass >= p * total;
            mass += weights[*at];
            !enough
        })
        .collect();
    if kept.is_empty() {
        kept.push(0);
    }
    kept.sort_unstable();
    *candidates = kept.into_iter().map(|at| candidates[at]).collect();
}

/// The natural logarithms of the probabilities that the model itself gives to `tokens`.
pub fn log_probabilities(scores: &[f32], tokens: &[i32]) -> Vec<f32> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = scores.iter().map(|score| f64::from(score - highest).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a sum of at most a million ones")]
    let normaliser = highest + total.ln() as f32;
    tokens
        .iter()
        .map(|token| usize::try_from(*token).ok().and_then(|at| scores.get(at)).map_or(f32::NEG_INFINITY, |score| score - normaliser))
        .collect()
}

/// The `n` likeliest tokens, best first.
pub fn likeliest(scores: &[f32], n: usize) -> Vec<i32> {
    if n == 0 {
        return Vec::new();
    }
    let mut found = top(scores, n);
    found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.token.cmp(&b.token)));
    found.into_iter().map(|candidate| candidate.token).collect()
}

fn enumerate(scores: &[f32]) -> impl Iterator<Item = Candidate> + '_ {
    (0_i32..).zip(scores).map(|(token, &score)| Candidate { token, score })
}

/// The highest score; the first of equal ones.
fn best(scores: &[f32]) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    for candidate in enumerate(scores) {
        // False for NaN.
        if candidate.score > best.map_or(f32::NEG_INFINITY, |b| b.score) {
            best = Some(candidate);
        }
    }
    best
}

/// The `k` highest, unsorted. One pass; scores rarely beat the threshold after the first few hundred.
fn top(scores: &[f32], k: usize) -> Vec<Candidate> {
    let room = k.saturating_mul(2).clamp(64, scores.len().max(64));
    let mut found: Vec<Candidate> = Vec::with_capacity(room);
    let mut threshold = f32::NEG_INFINITY;
    for candidate in enumerate(scores) {
        if candidate.score > threshold {
            found.push(candidate);
            if found.len() == room && k < room {
                threshold = shrink(&mut found, k);
            }
        }
    }
    if found.len() > k {
        shrink(&mut found, k);
    }
    found
}

/// Keeps the `k` highest and returns the lowest of them.
fn shrink(found: &mut Vec<Candidate>, k: usize) -> f32 {
    let (_, lowest, _) = found.select_nth_unstable_by(k - 1, |a, b| b.score.total_cmp(&a.score).then(a.token.cmp(&b.token)));
    let lowest = lowest.score;
    found.truncate(k);
    lowest
}

/// All that have a chance worth the name: with top-k off, sorting a whole vocabulary costs more than the
/// one in 10^10 that this leaves out.
fn likely(scores: &[f32], temperature: f32) -> Vec<Candidate> {
    let Some(highest) = best(scores) else { return Vec::new() };
    let floor = highest.score - 25.0 * temperature.max(1.0);
    enumerate(scores).filter(|candidate| candidate.score >= floor).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every platform for ever.
struct SplitMix(u64);

impl SplitMix {
    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let unit = (z >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(change: impl FnOnce(&mut Sampling)) -> Params {
        let mut asked =
            Sampling { temperature: Some(1.0), top_p: Some(1.0), top_k: Some(0), repeat_penalty: Some(1.0), ..Sampling::default() };
        change(&mut asked);
        Params::resolve(&asked, &Defaults::default(), 7).unwrap()
    }

    fn draws(params: &Params, scores: &[f32], n: usize) -> Vec<i32> {
        let mut sampler = Sampler::new(params.clone());
        (0..n).map(|_| sampler.choose(&mut scores.to_vec()).unwrap()).collect()
    }

    #[test]
    fn zero_temperature_takes_the_best_and_the_first_of_equals() {
        let params = params(|s| s.temperature = Some(0.0));
        assert_eq!(draws(&params, &[1.0, 3.0, 3.0, f32::NAN], 1), [1]);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let scores: Vec<f32> = (0..100_u8).map(|i| f32::from(i % 7)).collect();
        let a = params(|s| s.seed = Some(1));
        let b = params(|s| s.seed = Some(2));
        assert_eq!(draws(&a, &scores, 50), draws(&a, &scores, 50));
        assert_ne!(draws(&a, &scores, 50), draws(&b, &scores, 50));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // e^1 : e^0 = 0.731 : 0.269
        let ones = draws(&params(|_| ()), &[1.0, 0.0], 10_000).iter().filter(|&&t| t == 0).count();
        assert!((7_150..=7_470).contains(&ones), "{ones}");
    }

    #[test]
    fn top_k_keeps_the_best_k() {
        let scores: Vec<f32> = (0..5_000_u32).map(|i| f32::from(u16::try_from(i * 7919 % 5_000).unwrap())).collect();
        let mut found: Vec<f32> = top(&scores, 3).iter().map(|c| c.score).collect();
        found.sort_by(f32::total_cmp);
        assert_eq!(found, [4_997.0, 4_998.0, 4_999.0]);
        assert_eq!(top(&[1.0, 2.0], 5).len(), 2);
    }

    #[test]
    fn top_p_and_min_p_cut_the_tail_but_never_the_best() {
        let scores = [2.0, 1.0, 0.0, -8.0];
        assert!(draws(&params(|s| s.top_p = Some(0.0)), &scores, 200).iter().all(|&t| t == 0));
        assert!(draws(&params(|s| s.top_p = Some(0.7)), &scores, 500).iter().all(|&t| t <= 1));
        assert!(draws(&params(|s| s.min_p = Some(0.3)), &scores, 500).iter().all(|&t| t <= 1));
    }

    #[test]
    fn a_penalty_turns_away_from_what_was_said() {
        let mut sampler = Sampler::new(params(|s| {
            s.temperature = Some(0.0);
            s.repeat_penalty = Some(2.0);
        }));
        sampler.remember(0);
        assert_eq!(sampler.choose(&mut [3.0, 2.0]), Some(1));
        assert_eq!(sampler.choose(&mut [-1.0, -1.5]), Some(1), "negative scores get worse, too");
    }

    #[test]
    fn frequency_and_presence_look_at_the_completion_only() {
        let mut sampler = Sampler::new(params(|s| {
            s.temperature = Some(0.0);
            s.frequency_penalty = Some(0.5);
            s.presence_penalty = Some(0.4);
        }));
        sampler.remember(0);
        assert_eq!(sampler.choose(&mut [3.0, 2.0]), Some(0));
        sampler.accept(0);
        assert_eq!(sampler.choose(&mut [3.0, 2.2]), Some(1), "3.0 - 0.5 - 0.4");
        assert_eq!(sampler.choose(&mut [3.0, 2.0]), Some(0));
        sampler.accept(0);
        assert_eq!(sampler.choose(&mut [3.0, 2.0]), Some(1), "3.0 - 2 × 0.5 - 0.4");
    }

    #[test]
    fn typical_sampling_leaves_out_the_all_too_likely_as_well() {
        // Two fifths of the mass on one token, the rest on many: the expected surprise is nearer to the many.
        let mut scores = vec![0.0_f32; 65];
        scores[0] = 42.67_f32.ln();
        let drawn = draws(&params(|s| s.typical_p = Some(0.3)), &scores, 300);
        assert!(drawn.iter().all(|&token| token != 0), "{drawn:?}");
        assert!(draws(&params(|s| s.typical_p = Some(0.0)), &[5.0, 1.0], 20).iter().all(|&token| token == 0), "one always stays");
    }

    #[test]
    fn log_probabilities_add_up() {
        let scores = [1.0, 3.0, 2.0, f32::NEG_INFINITY];
        let logs = log_probabilities(&scores, &[0, 1, 2, 3]);
        let sum: f32 = logs.iter().map(|log| log.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{logs:?}");
        assert_eq!(likeliest(&scores, 2), [1, 2]);
        assert!((logs[1] - logs[0] - 2.0).abs() < 1e-5);
    }

    #[test]
    fn scores_that_are_no_numbers_are_noticed() {
        assert_eq!(Sampler::new(params(|_| ())).choose(&mut [f32::NAN, f32::NAN]), None);
        assert_eq!(Sampler::new(params(|s| s.top_k = Some(5))).choose(&mut [f32::NAN; 3]), None);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let error = Params::resolve(&Sampling { temperature: Some(3.0), ..Sampling::default() }, &Defaults::default(), 0).unwrap_err();
        assert!(error.contains("temperature") && error.contains('3'), "{error}");
        let error = Params::resolve(&Sampling { top_p: Some(f32::NAN), ..Sampling::default() }, &Defaults::default(), 0).unwrap_err();
        assert!(error.contains("top_p"), "{error}");
        assert!(Params::resolve(&Sampling { max_tokens: Some(0), ..Sampling::default() }, &Defaults::default(), 0).is_err());
    }

    #[test]
    fn a_file_may_carry_its_own_defaults() {
        let defaults = Defaults::from_metadata(|key| match key {
            "general.sampling.temp" => Some("0.600000".into()),
            "general.sampling.top_k" => Some("40".into()),
            "general.sampling.top_p" => Some("nonsense".into()),
            _ => None,
        });
        assert_eq!(defaults, Defaults { temperature: 0.6, top_k: 40, ..Defaults::default() });
    }
}

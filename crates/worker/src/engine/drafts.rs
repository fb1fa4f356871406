//! Guessing tokens ahead from what was said before.
//!
//! Where an answer repeats its context (editing a text, quoting a document, code), the tokens after the last
//! occurrence of the newest few are a good guess. They go through the model together with the next token in one
//! step and are kept as far as the model would have chosen them itself, so the answer is the same. This is
//! prompt lookup decoding (Saxena 2023), a speculative decoding (Leviathan et al. 2023) whose draft model is a
//! search.

use llama_cpp_2::token::LlamaToken;

/// Tokens that must agree before what followed them is believed.
const PATTERN: usize = 3;
const FIRST_GUESS: usize = 4;
const LONGEST_GUESS: usize = 24;
/// Tokens beyond the pattern that are compared to tell occurrences apart.
const LONGEST_MATCH: usize = 32;
/// Tokens that a probe tries after a pause.
const PROBE: usize = 2;
/// Weight of the newest guess in the rate.
const NEWEST: f64 = 0.3;
/// How much better than its price a guess must be to be made.
const MARGIN: f64 = 1.15;
const SHORTEST_PAUSE: u32 = 8;
const LONGEST_PAUSE: u32 = 128;

/// One completion's guesser. Stops by itself where guesses do not come true, and tries again later.
#[derive(Debug)]
pub struct Drafter {
    on: bool,
    length: usize,
    /// Part of the guessed tokens that were right, lately.
    rate: f64,
    /// Tokens until the next probe.
    rest: u32,
    pause: u32,
}

impl Drafter {
    pub fn new(on: bool) -> Self {
        Self { on, length: FIRST_GUESS, rate: 0.6, rest: 0, pause: SHORTEST_PAUSE }
    }

    /// What may follow `tokens`, at most `room` of them. `price` is the part of right guesses at which guessing
    /// costs as much as it gains.
    pub fn guess(&mut self, tokens: &[LlamaToken], price: f64, room: usize) -> Vec<LlamaToken> {
        if !self.on || room == 0 || price >= 1.0 {
            return Vec::new();
        }
        if self.rest > 0 {
            self.rest -= 1;
            return Vec::new();
        }
        let Some((end, matched)) = lookup(tokens) else { return Vec::new() };
        let doubtful = self.rate < price * MARGIN;
        // The longer a text has been followed, the farther it will be.
        let length = if doubtful { PROBE } else { self.length.max((matched - PATTERN).min(LONGEST_GUESS)) };
        tokens[end..].iter().cycle().take(length.min(room)).copied().collect()
    }

    /// `right` of `guessed` tokens came true.
    pub fn learn(&mut self, guessed: usize, right: usize, price: f64) {
        if guessed == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few tokens")]
        let latest = right as f64 / guessed as f64;
        self.rate += NEWEST * (latest - self.rate);
        if right == guessed {
            self.length = (self.length * 2).min(LONGEST_GUESS);
            self.pause = SHORTEST_PAUSE;
            // A probe is too short to bring the rate back by itself.
            self.rate = self.rate.max(0.6);
        } else {
            self.length = (right + 1).clamp(PROBE, LONGEST_GUESS);
            if self.rate < price * MARGIN {
                self.rest = self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Where the last tokens occurred before: the end of the occurrence that agrees with them farthest back, of equal ones
/// the latest, and how many tokens agree.
fn lookup(tokens: &[LlamaToken]) -> Option<(usize, usize)> {
    let at = tokens.len().checked_sub(PATTERN)?;
    let (before, pattern) = tokens.split_at(at);
    // The occurrence may overlap the pattern itself: "ababab" goes on with "ab".
    let found = (0..before.len()).rev().filter(|start| tokens[*start..*start + PATTERN] == *pattern);
    let agree =
        |start: usize| tokens[..start].iter().rev().zip(before.iter().rev()).take(LONGEST_MATCH).take_while(|(a, b)| a == b).count();
    let mut best = None;
    for start in found {
        let matched = PATTERN + agree(start);
        if best.is_none_or(|(_, most)| matched > most) {
            best = Some((start + PATTERN, matched));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<LlamaToken> {
        text.bytes().map(|byte| LlamaToken(byte.into())).collect()
    }

    fn guess(drafter: &mut Drafter, text: &str) -> String {
        drafter.guess(&tokens(text), 0.15, 100).iter().map(|token| char::from(u8::try_from(token.0).unwrap())).collect()
    }

    #[test]
    fn the_latest_occurrence_is_repeated() {
        let mut drafter = Drafter::new(true);
        assert_eq!(guess(&mut drafter, "say hello, say hullo, say h"), "ullo, s");
        assert_eq!(guess(&mut drafter, "nothing like it"), "");
        assert_eq!(guess(&mut drafter, "ab"), "");
        assert_eq!(guess(&mut drafter, "xabababab"), "abab");
        assert_eq!(guess(&mut Drafter::new(false), "say hello, say h"), "");
    }

    #[test]
    fn the_occurrence_that_agrees_farthest_back_is_followed() {
        let mut drafter = Drafter::new(true);
        assert_eq!(guess(&mut drafter, "first: let it be; second: let it go; third: let it rain. first: let it "), "be; second:");
    }

    #[test]
    fn guesses_grow_with_success_and_shrink_with_failure() {
        let text = "0123456789abcdefghijklmnopqrstuvwxyz, 0123";
        let mut drafter = Drafter::new(true);
        assert_eq!(guess(&mut drafter, text).len(), FIRST_GUESS);
        drafter.learn(4, 4, 0.15);
        assert_eq!(guess(&mut drafter, text).len(), 8);
        drafter.learn(8, 8, 0.15);
        drafter.learn(16, 2, 0.15);
        assert_eq!(guess(&mut drafter, text).len(), 3);
    }

    #[test]
    fn vain_guessing_stops_and_is_tried_again_ever_more_rarely() {
        let text = "say hello, say h";
        let mut drafter = Drafter::new(true);
        let mut guesses = Vec::new();
        for token in 0..600 {
            let guessed = guess(&mut drafter, text).len();
            if guessed > 0 {
                guesses.push((token, guessed));
                drafter.learn(guessed, 0, 0.15);
            }
        }
        let spent: usize = guesses.iter().map(|(_, guessed)| *guessed).sum();
        assert!(spent < 40, "{guesses:?}");
        assert!(guesses.last().unwrap().0 > 200, "it is still tried: {guesses:?}");
        // And comes back with success.
        while guess(&mut drafter, text).is_empty() {}
        drafter.learn(2, 2, 0.15);
        drafter.learn(4, 4, 0.15);
        assert!(guess(&mut drafter, text).len() > 2);
    }

    #[test]
    fn dear_guesses_are_not_made() {
        assert!(Drafter::new(true).guess(&tokens("say hello, say h"), 1.0, 100).is_empty());
    }
}

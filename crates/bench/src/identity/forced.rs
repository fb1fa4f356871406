//! Do both engines choose the same token behind the same text? Each beginning of the peer's answers is given to ours, which
//! adds one token: so a difference costs one position, not all that follows it in an answer.

use std::collections::BTreeMap;

use super::{MARGIN, NEEDS};
use crate::Result;
use crate::engine::{Answer, Ask, Kind, Launcher};
use crate::texts::question;

/// Positions in the peer's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forced {
    pub same: u32,
    pub different: u32,
    /// Of the different ones, those at which ours saw both tokens as its likeliest, less than [`MARGIN`] apart.
    pub below_margin: u32,
    /// Not compared: the text up to there is not made of the peer's tokens for who reads it, or ends within a character.
    pub left_out: u32,
}

/// A beginning of an answer, and what the peer went on with.
#[derive(Debug, PartialEq, Eq)]
struct Position {
    question: usize,
    beginning: String,
    /// Of the beginning.
    tokens: Vec<i32>,
    next: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Different,
    BelowMargin,
    LeftOut,
}

impl Forced {
    pub fn positions(self) -> u32 {
        self.same + self.different
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Same => self.same += 1,
            Verdict::Different => self.different += 1,
            Verdict::BelowMargin => {
                self.different += 1;
                self.below_margin += 1;
            }
            Verdict::LeftOut => self.left_out += 1,
        }
    }
}

/// Goes through the peer's answers to the first questions.
pub async fn run(launcher: &Launcher, peers: &[Answer]) -> Result<Forced> {
    let (positions, left_out) = positions(peers);
    let read = read(launcher, &positions).await?;
    let mut forced = Forced { left_out, ..Forced::default() };
    let engine = launcher.start(Kind::Ours, NEEDS).await?;
    let mut begun: BTreeMap<usize, u64> = BTreeMap::new();
    for position in &positions {
        let mut turns = vec![question(position.question)];
        if !position.tokens.is_empty() {
            turns.push(position.beginning.clone());
            if read.get(&position.beginning) != Some(&position.tokens) {
                forced.count(Verdict::LeftOut);
                continue;
            }
        }
        let ask = Ask { turns, tenant: position.question.to_string(), logprobs: Some(2), ..Ask::question("", 1) };
        let answer = engine.ask(ask).await?;
        // The first position of each question is that without any answer.
        let question = *begun.entry(position.question).or_insert(answer.prompt_tokens);
        let agree = answer.prompt_tokens == question + u64::try_from(position.tokens.len())?;
        forced.count(if agree { verdict(&answer, &position.next) } else { Verdict::LeftOut });
    }
    engine.stop().await?;
    Ok(forced)
}

/// All positions whose beginning is whole characters, and how many are not.
fn positions(peers: &[Answer]) -> (Vec<Position>, u32) {
    let (mut positions, mut left_out) = (Vec::new(), 0);
    for (question, answer) in peers.iter().enumerate() {
        let mut beginning: Vec<u8> = Vec::new();
        for (at, token) in answer.logprobs.iter().enumerate() {
            let whole = std::str::from_utf8(&beginning).ok().filter(|text| answer.text.starts_with(text));
            if let Some((text, tokens)) = whole.zip(answer.tokens.get(..at)) {
                let (beginning, tokens, next) = (text.to_owned(), tokens.to_vec(), token.bytes.clone());
                positions.push(Position { question, beginning, tokens, next });
            } else {
                left_out += 1;
            }
            beginning.extend_from_slice(&token.bytes);
        }
    }
    (positions, left_out)
}

/// The tokens that each beginning is read as.
async fn read(launcher: &Launcher, positions: &[Position]) -> Result<BTreeMap<String, Vec<i32>>> {
    let texts: Vec<String> = positions.iter().map(|position| position.beginning.clone()).collect();
    let tokens = launcher.tokens(&texts).await?;
    Ok(texts.into_iter().zip(tokens).collect())
}

/// Of the one token that ours added.
fn verdict(ours: &Answer, next: &[u8]) -> Verdict {
    let Some(token) = ours.logprobs.first() else {
        // It ended where the peer goes on, or the token is a part of a character, which is not told.
        return if ours.completion_tokens == 0 { Verdict::Different } else { Verdict::LeftOut };
    };
    if token.bytes == next {
        return Verdict::Same;
    }
    let [first, second] = token.top.as_slice() else { return Verdict::Different };
    let both = [first.bytes.as_slice(), second.bytes.as_slice()];
    let chosen = both.contains(&token.bytes.as_slice()) && both.contains(&next);
    if chosen && first.logprob - second.logprob < MARGIN { Verdict::BelowMargin } else { Verdict::Different }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worker_protocol::TokenLogprob;

    fn token(text: &str, top: &[(&str, f32)]) -> TokenLogprob {
        let top = top.iter().map(|(text, logprob)| TokenLogprob { logprob: *logprob, ..token(text, &[]) }).collect();
        TokenLogprob { bytes: text.into(), logprob: -0.7, top }
    }

    fn ours(chosen: &str, top: &[(&str, f32)]) -> Answer {
        Answer { logprobs: vec![token(chosen, top)], completion_tokens: 1, ..Answer::default() }
    }

    #[test]
    fn a_different_token_is_excused_only_where_both_were_as_likely() {
        let close = ours(" cat", &[(" cat", -0.70), (" dog", -0.75)]);
        assert_eq!(verdict(&close, b" cat"), Verdict::Same);
        assert_eq!(verdict(&close, b" dog"), Verdict::BelowMargin);
        assert_eq!(verdict(&close, b" bird"), Verdict::Different, "it is not among the two");
        assert_eq!(verdict(&close, b" do"), Verdict::Different, "it is another token");
        assert_eq!(verdict(&ours(" cat", &[(" cat", -0.3), (" dog", -1.3)]), b" dog"), Verdict::Different);
    }

    #[test]
    fn an_end_is_a_difference_and_half_a_character_is_not_compared() {
        assert_eq!(verdict(&Answer::default(), b" cat"), Verdict::Different);
        assert_eq!(verdict(&Answer { completion_tokens: 1, ..Answer::default() }, b" cat"), Verdict::LeftOut);
    }

    #[test]
    fn positions_are_beginnings_of_whole_characters() {
        let half = |bytes: &[u8]| TokenLogprob { bytes: bytes.into(), ..token("", &[]) };
        let answer = Answer {
            text: "A ü!".into(),
            tokens: vec![1, 2, 3, 4],
            logprobs: vec![token("A ", &[]), half(&[0xc3]), half(&[0xbc]), token("!", &[])],
            ..Answer::default()
        };
        let (positions, left_out) = positions(&[answer]);
        let beginnings: Vec<_> = positions.iter().map(|position| (position.beginning.as_str(), position.tokens.clone())).collect();
        assert_eq!(beginnings, [("", vec![]), ("A ", vec![1]), ("A ü", vec![1, 2, 3])]);
        assert_eq!(positions[2].next, b"!");
        assert_eq!(left_out, 1);
    }

    #[test]
    fn verdicts_are_counted() {
        let mut forced = Forced::default();
        for verdict in [Verdict::Same, Verdict::Different, Verdict::BelowMargin, Verdict::LeftOut] {
            forced.count(verdict);
        }
        assert_eq!(forced, Forced { same: 1, different: 2, below_margin: 1, left_out: 1 });
        assert_eq!(forced.positions(), 3);
    }
}

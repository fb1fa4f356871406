//! Do both engines say the same? Many prompts, greedy, one at a time; where they part, how far they agreed, and whether
//! both ways were equally good to the model.

mod forced;

use worker_protocol::TokenLogprob;

use crate::Result;
use crate::engine::{Answer, Ask, Kind, Launcher, Needs, Tuning};
use crate::report::Figure;
use crate::texts::question;
use forced::Forced;

const TOKENS: u32 = 48;
/// Two tokens whose log-probabilities differ by less are told apart by nothing but the order of additions.
const MARGIN: f32 = 0.1;

const NEEDS: Needs = Needs { clients: 1, context: 2048, slots: Some(1), speculate: false, keep: false };

/// The part of the prompts whose answers are the same to the last character, and the mean part of an answer that is the same
/// before the first difference: with the peer at its best tuning, which computes attention as ours does, and with the peer as
/// it comes. The peer's own column of the latter says how far it agrees with itself at its best tuning: what the order of
/// additions does alone.
///
/// The same in tokens, as who answered tells them: the mean part of an answer's tokens before the first difference, how many
/// answers differ, and in how many of these the two likeliest tokens at the first difference were the two that were chosen,
/// within [`MARGIN`].
///
/// And position by position, see [`forced`], where the peer's columns are not numbers.
pub async fn run(launcher: &Launcher, prompts: usize) -> Result<(Vec<Figure>, Vec<Figure>)> {
    let ours = answers(launcher, Kind::Ours, prompts).await?;
    let tuned = answers(launcher, Kind::Peer(Tuning::Tuned), prompts).await?;
    let default = answers(launcher, Kind::Peer(Tuning::Default), prompts).await?;
    let [alike, as_it_comes, with_itself] = [compare(&ours, &tuned), compare(&ours, &default), compare(&tuned, &default)];
    let same = Agreement { identical: 1.0, agreed: 1.0, agreed_tokens: 1.0, differences: 0.0, below_margin: 0.0 };
    let (mut of_ours, mut of_peer) = (figures(alike, as_it_comes), figures(same, with_itself));
    for (names, answers) in [(FORCED_TUNED, &tuned), (FORCED, &default)] {
        eprintln!("identity, position by position");
        let forced = positions(forced::run(launcher, answers).await?);
        of_ours.extend(names.into_iter().zip(forced).map(|(name, value)| Figure::new(1, name, value)));
        of_peer.extend(names.into_iter().map(|name| Figure::new(1, name, f64::NAN)));
    }
    Ok((of_ours, of_peer))
}

/// What the figures of [`positions`] are called.
const FORCED_TUNED: [&str; 5] = [
    "forced_positions_tuned",
    "forced_same_part_tuned",
    "forced_differences_tuned",
    "forced_differences_below_margin_tuned",
    "forced_left_out_tuned",
];
const FORCED: [&str; 5] =
    ["forced_positions", "forced_same_part", "forced_differences", "forced_differences_below_margin", "forced_left_out"];

fn positions(forced: Forced) -> [f64; 5] {
    let Forced { same, different, below_margin, left_out } = forced;
    let all = f64::from(forced.positions());
    [all, f64::from(same) / all, f64::from(different), f64::from(below_margin), f64::from(left_out)]
}

fn figures(tuned: Agreement, default: Agreement) -> Vec<Figure> {
    vec![
        Figure::new(1, "identical_answers_tuned", tuned.identical),
        Figure::new(1, "agreed_part_tuned", tuned.agreed),
        Figure::new(1, "agreed_tokens_part_tuned", tuned.agreed_tokens),
        Figure::new(1, "differences_tuned", tuned.differences),
        Figure::new(1, "differences_below_margin_tuned", tuned.below_margin),
        Figure::new(1, "identical_answers", default.identical),
        Figure::new(1, "agreed_part", default.agreed),
        Figure::new(1, "agreed_tokens_part", default.agreed_tokens),
        Figure::new(1, "differences", default.differences),
        Figure::new(1, "differences_below_margin", default.below_margin),
    ]
}

#[derive(Clone, Copy)]
struct Agreement {
    /// Parts of one.
    identical: f64,
    agreed: f64,
    agreed_tokens: f64,
    /// Answers.
    differences: f64,
    below_margin: f64,
}

#[expect(clippy::cast_precision_loss, reason = "some hundred short texts")]
fn compare(ours: &[Answer], theirs: &[Answer]) -> Agreement {
    let all = ours.len() as f64;
    let pairs = || ours.iter().zip(theirs);
    let mean = |part: fn(&Answer, &Answer) -> f64| pairs().map(|(ours, theirs)| part(ours, theirs)).sum::<f64>() / all;
    let differ = || pairs().filter(|(ours, theirs)| ours.text != theirs.text);
    Agreement {
        identical: pairs().filter(|(ours, theirs)| ours.text == theirs.text).count() as f64 / all,
        agreed: mean(agreed),
        agreed_tokens: mean(agreed_tokens),
        differences: differ().count() as f64,
        below_margin: differ().filter(|(ours, theirs)| is_toss_up(&ours.logprobs, theirs.text.as_bytes())).count() as f64,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a short text")]
fn agreed(ours: &Answer, theirs: &Answer) -> f64 {
    let common = ours.text.chars().zip(theirs.text.chars()).take_while(|(a, b)| a == b).count();
    let length = ours.text.chars().count().max(theirs.text.chars().count());
    if length == 0 { 1.0 } else { common as f64 / length as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "a short text")]
fn agreed_tokens(ours: &Answer, theirs: &Answer) -> f64 {
    let (common, _) = parting(&ours.logprobs, theirs.text.as_bytes());
    if ours.logprobs.is_empty() { 1.0 } else { common as f64 / ours.logprobs.len() as f64 }
}

/// How many of our tokens the other text begins with, and what follows in it.
fn parting<'a>(ours: &[TokenLogprob], mut theirs: &'a [u8]) -> (usize, &'a [u8]) {
    let mut common = 0;
    for token in ours {
        let Some(rest) = theirs.strip_prefix(token.bytes.as_slice()) else { break };
        theirs = rest;
        common += 1;
    }
    (common, theirs)
}

/// At the first difference the two likeliest tokens were the one that we chose and the one that the other text goes on with,
/// and hardly differed.
fn is_toss_up(ours: &[TokenLogprob], theirs: &[u8]) -> bool {
    let (common, rest) = parting(ours, theirs);
    let Some(TokenLogprob { bytes, top, .. }) = ours.get(common) else { return false };
    let [first, second] = top.as_slice() else { return false };
    let other = if first.bytes == *bytes {
        second
    } else if second.bytes == *bytes {
        first
    } else {
        return false;
    };
    !other.bytes.is_empty() && rest.starts_with(&other.bytes) && (first.logprob - second.logprob).abs() < MARGIN
}

async fn answers(launcher: &Launcher, kind: Kind, prompts: usize) -> Result<Vec<Answer>> {
    let engine = launcher.start(kind, NEEDS).await?;
    let mut answers = Vec::with_capacity(prompts);
    for number in 0..prompts {
        let ask = Ask { tenant: format!("{number}"), logprobs: Some(2), ..Ask::question(question(number), TOKENS) };
        answers.push(engine.ask(ask).await?);
    }
    engine.stop().await?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, top: &[(&str, f32)]) -> TokenLogprob {
        let top = top.iter().map(|(text, logprob)| TokenLogprob { logprob: *logprob, ..token(text, &[]) }).collect();
        TokenLogprob { bytes: text.into(), logprob: -0.7, top }
    }

    fn answer(margin: f32) -> Answer {
        let second = token(" cat", &[(" cat", -0.7), (" dog", -0.7 - margin)]);
        Answer { text: "The cat".into(), logprobs: vec![token("The", &[("The", -0.1), ("A", -2.5)]), second], ..Answer::default() }
    }

    fn other(text: &str) -> Answer {
        Answer { text: text.into(), ..Answer::default() }
    }

    #[test]
    fn a_difference_between_equally_likely_tokens_is_told_from_one_that_is_not() {
        assert!(is_toss_up(&answer(0.05).logprobs, b"The dog barks"));
        assert!(!is_toss_up(&answer(0.3).logprobs, b"The dog barks"));
        assert!(!is_toss_up(&answer(0.05).logprobs, b"The bird"), "it is not among the two");
        assert!(!is_toss_up(&answer(0.05).logprobs, b"A dog"));
        assert!(!is_toss_up(&answer(0.05).logprobs, b"The"), "the other one ended");
    }

    #[test]
    fn agreement_is_counted_in_characters_and_in_tokens() {
        let ours = [answer(0.05), answer(0.05)];
        let Agreement { identical, agreed, agreed_tokens, differences, below_margin } =
            compare(&ours, &[other("The cat"), other("The dog")]);
        assert_eq!((identical, agreed_tokens, differences, below_margin), (0.5, 0.75, 1.0, 1.0));
        assert!((agreed - (1.0 + 4.0 / 7.0) / 2.0).abs() < 1e-9);
    }
}

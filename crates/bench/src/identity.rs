//! Do both engines say the same? A hundred prompts, greedy, one at a time; where they part, how far they agreed.

use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs, Tuning};
use crate::report::Figure;
use crate::texts::question;

const PROMPTS: usize = 100;
const TOKENS: u32 = 48;

/// The part of the prompts whose answers are the same to the last character, and the mean part of an answer that is the same
/// before the first difference: with the peer at its best tuning, which computes attention as ours does, and with the peer as
/// it comes. The peer's own column of the latter says how far it agrees with itself at its best tuning: what the order of
/// additions does alone.
pub async fn run(launcher: &Launcher) -> Result<(Vec<Figure>, Vec<Figure>)> {
    let ours = answers(launcher, Kind::Ours).await?;
    let tuned = answers(launcher, Kind::Peer(Tuning::Tuned)).await?;
    let default = answers(launcher, Kind::Peer(Tuning::Default)).await?;
    let [alike, as_it_comes, with_itself] = [compare(&ours, &tuned), compare(&ours, &default), compare(&tuned, &default)];
    let figures = |tuned: Agreement, default: Agreement| {
        vec![
            Figure::new(1, "identical_answers_tuned", tuned.identical),
            Figure::new(1, "agreed_part_tuned", tuned.agreed),
            Figure::new(1, "identical_answers", default.identical),
            Figure::new(1, "agreed_part", default.agreed),
        ]
    };
    Ok((figures(alike, as_it_comes), figures(Agreement { identical: 1.0, agreed: 1.0 }, with_itself)))
}

/// Parts of one.
#[derive(Clone, Copy)]
struct Agreement {
    identical: f64,
    agreed: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a hundred short texts")]
fn compare(ours: &[String], theirs: &[String]) -> Agreement {
    let part = |(ours, theirs): (&String, &String)| {
        let common = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
        let length = ours.chars().count().max(theirs.chars().count());
        if length == 0 { 1.0 } else { common as f64 / length as f64 }
    };
    let parts: Vec<f64> = ours.iter().zip(theirs).map(part).collect();
    let identical = parts.iter().filter(|part| **part >= 1.0).count();
    Agreement { identical: identical as f64 / parts.len() as f64, agreed: parts.iter().sum::<f64>() / parts.len() as f64 }
}

async fn answers(launcher: &Launcher, kind: Kind) -> Result<Vec<String>> {
    let engine = launcher.start(kind, Needs { clients: 1, context: 2048, slots: Some(1), speculate: false, keep: false }).await?;
    let mut answers = Vec::with_capacity(PROMPTS);
    for number in 0..PROMPTS {
        let ask = Ask { tenant: format!("{number}"), ..Ask::question(question(number), TOKENS) };
        answers.push(engine.ask(ask).await?.text);
    }
    engine.stop().await?;
    Ok(answers)
}

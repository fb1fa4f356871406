//! Do both engines say the same? A hundred prompts, greedy, one at a time; where they part, how far they agreed.

use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs, Tuning};
use crate::report::Figure;
use crate::texts::question;

const PROMPTS: usize = 100;
const TOKENS: u32 = 48;

/// The part of the prompts whose answers are the same to the last character, and the mean part of an answer that
/// is the same before the first difference.
pub async fn run(launcher: &Launcher) -> Result<(Vec<Figure>, Vec<Figure>)> {
    let ours = answers(launcher, Kind::Ours).await?;
    let peer = answers(launcher, Kind::Peer(Tuning::Default)).await?;
    let (mut same, mut agreed) = (0.0, 0.0);
    for (number, (ours, peer)) in ours.iter().zip(&peer).enumerate() {
        let common = ours.chars().zip(peer.chars()).take_while(|(a, b)| a == b).count();
        let length = ours.chars().count().max(peer.chars().count());
        if ours == peer {
            same += 1.0;
        } else {
            eprintln!("prompt {number}: the answers part after {common} of {length} characters");
        }
        #[expect(clippy::cast_precision_loss, reason = "short texts")]
        let part = if length == 0 { 1.0 } else { common as f64 / length as f64 };
        agreed += part;
    }
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let all = PROMPTS as f64;
    let figure = |metric, value| Figure::new(1, metric, value);
    Ok((
        vec![figure("identical_answers", same / all), figure("agreed_part", agreed / all)],
        vec![figure("identical_answers", 1.0), figure("agreed_part", 1.0)],
    ))
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

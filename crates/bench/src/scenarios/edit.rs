//! A text is repeated with a small change, with and without guessing ahead; and a chat, where guessing must not hurt.

use super::{number, warm_up};
use crate::Result;
use crate::engine::{Answer, Ask, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::{question, source};

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let mut speeds = Vec::new();
    for speculate in [false, true] {
        let engine = launcher.start(kind, Needs { clients: 1, context: 4096, slots: None, speculate, keep: false }).await?;
        warm_up(&engine).await?;
        let code = source(5);
        let edit = engine
            .ask(Ask {
                // The beginning of the answer is given, so that small models do what they are asked for.
                ..Ask::question(format!("Repeat this code exactly, without any comment:\n\n```rust\n{code}```"), 400)
            })
            .await?;
        let chat = engine.ask(Ask { ignore_end: true, ..Ask::question(question(7), 200) }).await?;
        engine.stop().await?;
        speeds.push((speed(&edit), speed(&chat)));
    }
    let [off, on] = speeds[..] else { return Err("two runs were to be made".into()) };
    Ok(vec![
        Figure::new(1, "edit_on_per_off", on.0 / off.0),
        Figure::new(1, "chat_on_per_off", on.1 / off.1),
        Figure::new(1, "edit_tokens_per_s", on.0),
    ])
}

/// Tokens per second after the first one.
fn speed(answer: &Answer) -> f64 {
    number(answer.completion_tokens.saturating_sub(1)) / (answer.took.saturating_sub(answer.ttft())).as_secs_f64()
}

//! Reading what a model answers.

use inference::{Ended, Generation, Output};

/// Everything up to the end: the texts put together, and the end.
///
/// # Panics
/// There is no end.
pub async fn read(generation: &mut Generation) -> (String, Ended) {
    let mut text = String::new();
    while let Some(output) = generation.next().await {
        match output {
            Output::Text { text: more, .. } => text.push_str(&more),
            Output::End(ended) => return (text, *ended),
            _ => {}
        }
    }
    panic!("the generation had no end");
}

/// Reads on up to the first text.
///
/// # Panics
/// The end comes before.
pub async fn first_text(generation: &mut Generation) -> String {
    while let Some(output) = generation.next().await {
        match output {
            Output::Text { text, .. } => return text,
            Output::End(ended) => panic!("ended before the first text: {ended:?}"),
            _ => {}
        }
    }
    panic!("the generation had no text");
}

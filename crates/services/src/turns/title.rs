//! Titles of chats: the model's own words after the first answer. Until then the first words of the question, see
//! [`contract::title`].

use crate::shared::Shared;
use contract::{
    model::Sampling,
    title::{one_line, whole_words},
    usage::Purpose,
};
use domain::{Actor, Result};
use inference::{ChatMessage, ChatRole, Finish, Options, Outcome, Output, Request};
use std::time::Duration;
use tokio::time::timeout;

/// Longest title of a model, in characters.
const MODEL_TITLE_CHARS: usize = 80;
/// Tokens that a title may take.
const MAX_TOKENS: u32 = 16;
/// What the model gets to see of question and answer, in characters.
const EXCERPT_CHARS: usize = 800;
/// A title is not worth waiting longer for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the model for a title; `None` if it has no good one. Metered like every use.
pub(crate) async fn ask(shared: &Shared, actor: &Actor, model: &str, question: &str, answer: &str) -> Option<String> {
    match timeout(PATIENCE, generate(shared, actor, model, question, answer)).await {
        Ok(Ok(title)) => tidy(&title),
        Ok(Err(error)) => {
            // A chat without a model's title is no failure for anybody; the makeshift one stays.
            tracing::info!(%error, "no title was made");
            None
        }
        Err(_) => None,
    }
}

async fn generate(shared: &Shared, actor: &Actor, model: &str, question: &str, answer: &str) -> Result<String> {
    let system = "You give conversations a title. Reply with the title alone: at most six words, in the language of the question, \
                  without quotation marks and without a full stop.";
    let excerpt = |text: &str| text.chars().take(EXCERPT_CHARS).collect::<String>();
    let user = format!("Question:\n{}\n\nAnswer:\n{}\n\nGive the title of this conversation.", excerpt(question), excerpt(answer));
    let request = Request {
        purpose: Purpose::Title,
        model: Some(model.to_owned()),
        messages: vec![ChatMessage::new(ChatRole::System, system), ChatMessage::new(ChatRole::User, user)],
        continue_last: false,
        transient: false,
        options: Options::default(),
        sampling: Sampling { temperature: Some(0.2), max_tokens: Some(MAX_TOKENS), ..Sampling::default() },
    };
    let mut generation = shared.inference.admit(actor, request).await?;
    let mut title = String::new();
    while let Some(output) = generation.next().await {
        match output {
            Output::Text { text, .. } => title.push_str(&text),
            // A fragment is no title.
            Output::End(ended) if ended.stats.finish_reason == Finish::ContentFilter.name() => return Ok(String::new()),
            Output::End(ended) if ended.outcome == Outcome::Ok => return Ok(title),
            Output::End(ended) => return ended.error.map_or_else(|| Ok(String::new()), Err),
            _ => {}
        }
    }
    Ok(String::new())
}

/// What is usable of a model's title: one line without the decoration that models like.
fn tidy(raw: &str) -> Option<String> {
    let line = raw.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line = one_line(line);
    let line = ["Title:", "Titel:"].iter().find_map(|label| line.strip_prefix(label)).unwrap_or(&line);
    let line = line.trim_matches(|c: char| c.is_whitespace() || "\"'“”„‚‘’«»*#`_".contains(c));
    let line = line.strip_suffix('.').unwrap_or(line).trim();
    (!line.is_empty()).then(|| whole_words(line, MODEL_TITLE_CHARS))
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn decoration_of_models_is_removed() {
        assert_eq!(tidy("\n\"Title of it.\"\nmore"), Some("Title of it".into()));
        assert_eq!(tidy("Title: **Steuern 2026**"), Some("Steuern 2026".into()));
        assert_eq!(tidy(" \"\" \n"), None);
        let long = tidy(&"Steuern ".repeat(20)).unwrap();
        assert!(long.ends_with("Steuern…") && long.chars().count() <= 81, "{long}");
    }
}

//! Titles of chats: the first words of the question at once, the model's own words after the first answer.

use crate::{check, shared::Shared};
use contract::{model::Sampling, usage::Purpose};
use domain::{Actor, Result};
use inference::{ChatMessage, ChatRole, Options, Outcome, Output, Request};
use std::time::Duration;
use tokio::time::timeout;

/// Longest makeshift title, in characters.
const FIRST_WORDS_CHARS: usize = 60;
/// Longest title of a model, in characters.
const MODEL_TITLE_CHARS: usize = 80;
/// Tokens that a title may take.
const MAX_TOKENS: u32 = 16;
/// What the model gets to see of question and answer, in characters.
const EXCERPT_CHARS: usize = 800;
/// A title is not worth waiting longer for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first words of a question as a makeshift title; never empty.
pub(crate) fn first_words(question: &str, attachment: Option<&str>) -> String {
    let line = check::one_line(question);
    let line = if line.is_empty() { check::one_line(attachment.unwrap_or("…")) } else { line };
    if line.chars().count() <= FIRST_WORDS_CHARS {
        return line;
    }
    let cut: String = line.chars().take(FIRST_WORDS_CHARS).collect();
    // At a word's end, unless that would leave next to nothing.
    let cut = match cut.rfind(' ') {
        Some(at) if at > FIRST_WORDS_CHARS / 3 => cut[..at].to_owned(),
        _ => cut,
    };
    format!("{}…", cut.trim_end_matches([',', ';', ':', '.', ' ']))
}

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
    let line = check::one_line(line);
    let line = ["Title:", "Titel:"].iter().find_map(|label| line.strip_prefix(label)).unwrap_or(&line);
    let line = line.trim_matches(|c: char| c.is_whitespace() || "\"'“”„‚‘’«»*#`_".contains(c));
    let line = line.strip_suffix('.').unwrap_or(line).trim();
    let title: String = line.chars().filter(|c| *c != '\0').take(MODEL_TITLE_CHARS).collect();
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use super::{first_words, tidy};

    #[test]
    fn a_makeshift_title_ends_at_a_word() {
        assert_eq!(first_words("Hello\n world", None), "Hello world");
        assert_eq!(first_words(" ", Some("notes.txt")), "notes.txt");
        let long = first_words(&"wonderful ".repeat(20), None);
        assert!(long.ends_with("wonderful…") && long.chars().count() <= 61, "{long}");
        assert_eq!(first_words(&"x".repeat(100), None).chars().count(), 61);
    }

    #[test]
    fn decoration_of_models_is_removed() {
        assert_eq!(tidy("\n\"Title of it.\"\nmore"), Some("Title of it".into()));
        assert_eq!(tidy("Title: **Steuern 2026**"), Some("Steuern 2026".into()));
        assert_eq!(tidy(" \"\" \n"), None);
    }
}

//! Taking chats out and bringing them in.

mod archive;
mod document;
mod import;
mod markdown;
mod seed;

use crate::{check, shared::Shared};
use contract::{
    account::Language,
    chat::Imported,
    ids::{ConversationId, UserId},
};
use document::Document;
use domain::{Action, Actor, Error, Result};
use std::{collections::HashMap, sync::Arc};
use store::{TenantTx, audit::AuditEvent};

/// Largest JSON document that can be imported, in bytes.
const IMPORT_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A file to be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Plain ASCII without path separators or quotes: fit for a header.
    pub name: String,
    pub mime: &'static str,
    pub bytes: Vec<u8>,
}

/// Export and import.
#[derive(Clone)]
pub struct Transfer {
    shared: Arc<Shared>,
}

impl Transfer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A chat as Markdown: the branch in view, then the others. Its headings are in the user's language, or the browser's.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn conversation_markdown(&self, actor: &Actor, id: ConversationId, browser: Language) -> Result<File> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let document = self.document(&tx, user, id).await?;
        let language = tx.users().get(user).await?.profile.language.unwrap_or(browser);
        tx.commit().await?;
        let bytes = markdown::render(&document, language).into_bytes();
        Ok(File { name: file_name(&document.conversation.title, "md"), mime: "text/markdown; charset=utf-8", bytes })
    }

    /// A chat with all branches and attachments as JSON, schema [`document::SCHEMA`], fit for [`Self::import`].
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn conversation_json(&self, actor: &Actor, id: ConversationId) -> Result<File> {
        actor.may(Action::Chat)?;
        let tx = self.shared.db.begin(actor).await?;
        let document = self.document(&tx, actor.user()?, id).await?;
        tx.commit().await?;
        let bytes = serde_json::to_vec_pretty(&document).map_err(Error::internal)?;
        Ok(File { name: file_name(&document.conversation.title, "json"), mime: "application/json", bytes })
    }

    /// Everything of a user as ZIP: each chat as JSON and Markdown, the profile, the usage. Languages as for
    /// [`Self::conversation_markdown`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn everything_zip(&self, actor: &Actor, browser: Language) -> Result<File> {
        actor.may(Action::ManageOwnAccount)?;
        let user = actor.user()?;
        let mut archive = archive::Archive::default();
        let tx = self.shared.db.begin(actor).await?;
        let person = tx.users().get(user).await?;
        let language = person.profile.language.unwrap_or(browser);
        let ids = tx.conversations().ids(user).await?;
        let usage = archive::usage(&tx, user, person.created_at, self.shared.now()).await?;
        tx.commit().await?;
        archive.json("profile.json", &archive::Person { email: &person.email, profile: &person.profile, created_at: person.created_at })?;
        archive.add("usage.csv", usage.into_bytes())?;
        for (number, id) in ids.into_iter().enumerate() {
            // One transaction a chat: a big archive must not hold one open for long.
            let tx = self.shared.db.begin(actor).await?;
            let document = match self.document(&tx, user, id).await {
                Ok(document) => document,
                // Deleted meanwhile.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            tx.commit().await?;
            archive = archive.chat(number + 1, document, language).await?;
        }
        Ok(File { name: "kontor-export.zip".into(), mime: "application/zip", bytes: archive.finish()? })
    }

    /// Brings in one exported chat, or a JSON list of several. Everything gets new ids; nothing is overwritten. Of programs it is in
    /// the audit trail.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `json`: `too_long`, `bad_json`, `unknown_schema`, `bad_tree`, `too_many_messages`, or the
    /// code of what is wrong with a message.
    pub async fn import(&self, actor: &Actor, json: String) -> Result<Imported> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        check::at_most("json", &json, IMPORT_MAX_BYTES)?;
        let now = self.shared.now();
        let plans = import::parse(&json)?.into_iter().map(|document| import::plan(document, now)).collect::<Result<Vec<_>>>()?;
        let mut imported = Imported::default();
        let tx = self.shared.db.begin(actor).await?;
        for plan in plans {
            imported.messages += import::store(&tx, user, &plan).await?;
            imported.conversations += 1;
        }
        if actor.as_program().is_some() {
            let event = AuditEvent::by(actor, "conversations.imported");
            tx.audit().add(&event.detail("conversations", imported.conversations).detail("messages", imported.messages)).await?;
        }
        tx.commit().await?;
        Ok(imported)
    }

    /// Makes a long chat of generated Markdown (prose, code, tables, lists): for measurements.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `messages` or `bytes` beyond what an import may bring.
    pub async fn seed_long_chat(&self, actor: &Actor, messages: u32, bytes: u32) -> Result<ConversationId> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let now = self.shared.now();
        let plan = import::plan(seed::document(messages, bytes, now)?, now)?;
        let tx = self.shared.db.begin(actor).await?;
        import::store(&tx, user, &plan).await?;
        tx.commit().await?;
        Ok(plan.conversation.id)
    }

    /// A chat of the user with everything in it.
    async fn document(&self, tx: &TenantTx, user: UserId, id: ConversationId) -> Result<Document> {
        let stored = tx.conversations().find(user, id).await?.ok_or(Error::not_found("conversation"))?;
        let messages = tx.messages().tree(user, id).await?;
        let mut texts: HashMap<_, Vec<_>> = HashMap::new();
        for (message, attachment) in tx.attachments().of_conversation(user, id).await? {
            texts.entry(message).or_default().push(attachment);
        }
        Ok(Document::new(stored, messages, texts, self.shared.now()))
    }
}

/// A file name from a title: letters and digits of ASCII, the rest as hyphens.
fn file_name(title: &str, extension: &str) -> String {
    let mut name = String::new();
    for c in title.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c),
            'ä' => name.push_str("ae"),
            'ö' => name.push_str("oe"),
            'ü' => name.push_str("ue"),
            'ß' => name.push_str("ss"),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
        if name.len() >= 60 {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    format!("{}.{extension}", if name.is_empty() { "chat" } else { name })
}

/// Words of the product in exported texts.
struct Words {
    question: &'static str,
    answer: &'static str,
    branch: &'static str,
    attachment: &'static str,
    unfinished: &'static str,
}

fn words(language: Language) -> Words {
    match language {
        Language::En => {
            Words { question: "Question", answer: "Answer", branch: "Another branch", attachment: "Attachment", unfinished: "(unfinished)" }
        }
        Language::De => {
            Words { question: "Frage", answer: "Antwort", branch: "Anderer Zweig", attachment: "Anhang", unfinished: "(unvollständig)" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_file_name_is_fit_for_a_header() {
        assert_eq!(file_name("Über \"../etc\"\r\n größer?", "md"), "ber-etc-groesser.md");
        assert_eq!(file_name("日本", "json"), "chat.json");
        assert!(file_name(&"x".repeat(500), "md").len() <= 64);
    }
}

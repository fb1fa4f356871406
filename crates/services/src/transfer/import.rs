//! Bringing exported chats in: everything is checked before anything is stored.

use super::document::{Document, Node, SCHEMA};
use crate::check;
use contract::{
    Millis,
    chat::{ATTACHMENTS_MAX, ConversationSettings, MESSAGE_MAX_BYTES, MessageRole, MessageStatus, NewAttachment},
    ids::{AttachmentId, ConversationId, MessageId, UserId},
};
use domain::{Error, Result};
use serde::Deserialize;
use std::collections::HashMap;
use store::{
    TenantTx,
    conversations::{NewConversation, TitleSource},
    imports::{ImportedAttachment, ImportedMessage},
};
use uuid::Uuid;

/// Most messages of one chat.
const MESSAGES_MAX: usize = 20_000;
/// Most chats of one import.
const CHATS_MAX: usize = 1_000;
/// Longest answer, in bytes. Questions obey the limit of the chat.
const ANSWER_MAX_BYTES: usize = 4 * MESSAGE_MAX_BYTES;
/// Longest of the short texts (model, error, finish reason), in bytes.
const WORD_MAX_BYTES: usize = 200;

/// A checked chat with fresh ids, ready to be stored.
pub(crate) struct Plan {
    pub conversation: Head,
    messages: Vec<ImportedMessage>,
    attachments: Vec<ImportedAttachment>,
    active_leaf: Option<MessageId>,
}

/// The conversation of a [`Plan`]; its owner is added when it is stored.
pub(crate) struct Head {
    pub id: ConversationId,
    title: String,
    pinned: bool,
    archived: bool,
    settings: ConversationSettings,
    created_at: Millis,
    updated_at: Millis,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Box<Document>),
    Many(Vec<Document>),
}

/// Reads one document or a list of them.
pub(crate) fn parse(json: &str) -> Result<Vec<Document>> {
    let bad = |_| Error::invalid("json", "bad_json", "This is not an exported chat.");
    // The schema first: what a newer version wrote should be told as that, not as broken.
    let value: serde_json::Value = serde_json::from_str(json).map_err(bad)?;
    let documents = value.as_array().map_or_else(|| vec![&value], |list| list.iter().collect());
    if documents.iter().any(|document| document.get("schema").and_then(|schema| schema.as_str()).is_some_and(|schema| schema != SCHEMA)) {
        return Err(Error::invalid("json", "unknown_schema", format!("Only {SCHEMA} can be imported.")));
    }
    if documents.len() > CHATS_MAX {
        return Err(Error::invalid("json", "too_many_chats", format!("At most {CHATS_MAX} chats can be imported at once.")));
    }
    match serde_json::from_value(value).map_err(bad)? {
        OneOrMany::One(document) => Ok(vec![*document]),
        OneOrMany::Many(documents) => Ok(documents),
    }
}

/// Checks a document and gives everything new ids.
pub(crate) fn plan(document: Document, now: Millis) -> Result<Plan> {
    if document.messages.len() > MESSAGES_MAX {
        return Err(Error::invalid("json", "too_many_messages", format!("A chat may have at most {MESSAGES_MAX} messages.")));
    }
    let head = document.conversation;
    let system_prompt = check::clean(head.system_prompt);
    check::at_most("json", &system_prompt, check::SYSTEM_PROMPT_MAX_BYTES)?;
    check::sampling(&head.sampling)?;
    let title: String = check::one_line(&head.title).chars().take(check::TITLE_MAX_CHARS).collect();
    let conversation = Head {
        id: ConversationId(Uuid::now_v7()),
        title: if title.is_empty() { "Import".into() } else { title },
        pinned: head.pinned,
        archived: head.archived,
        settings: ConversationSettings { model: head.model.map(word).transpose()?, system_prompt, sampling: head.sampling },
        created_at: head.created_at.clamp(0, now),
        updated_at: head.updated_at.clamp(0, now),
    };
    let mut known: HashMap<String, (MessageId, MessageRole, u32)> = HashMap::new();
    let mut messages = Vec::with_capacity(document.messages.len());
    let mut attachments = Vec::new();
    for node in document.messages {
        let place = place(&known, &node)?;
        let id = MessageId(Uuid::now_v7());
        if known.insert(node.id.clone(), (id, node.role, place.1)).is_some() {
            return Err(tree("two messages have the same id"));
        }
        let (message, mut texts) = message(node, id, place, now)?;
        messages.push(message);
        attachments.append(&mut texts);
    }
    let named = head.active_leaf.and_then(|leaf| known.get(&leaf)).map(|(id, ..)| *id);
    let active_leaf = named.or(messages.last().map(|message| message.id));
    Ok(Plan { conversation, messages, attachments, active_leaf })
}

/// Stores a plan; how many messages it had.
pub(crate) async fn store(tx: &TenantTx, user: UserId, plan: &Plan) -> Result<u32> {
    let head = &plan.conversation;
    let new = NewConversation {
        id: head.id,
        user,
        title: head.title.clone(),
        title_source: TitleSource::Import,
        pinned: head.pinned,
        archived: head.archived,
        settings: head.settings.clone(),
        created_at: head.created_at,
        updated_at: head.updated_at,
    };
    tx.conversations().insert(&new).await?;
    tx.imports().messages(user, head.id, &plan.messages).await?;
    tx.imports().attachments(&plan.attachments).await?;
    if let Some(leaf) = plan.active_leaf {
        let leaf = tx.messages().newest_leaf(user, head.id, leaf).await?.unwrap_or(leaf);
        tx.conversations().set_leaf(user, head.id, leaf, None).await?;
    }
    Ok(u32::try_from(plan.messages.len()).unwrap_or(u32::MAX))
}

/// Parent and depth of a message, which must fit: questions and answers in turn, from a question on.
fn place(known: &HashMap<String, (MessageId, MessageRole, u32)>, node: &Node) -> Result<(Option<MessageId>, u32)> {
    match &node.parent {
        None if node.role == MessageRole::User => Ok((None, 0)),
        None => Err(tree("a chat begins with a question")),
        Some(parent) => {
            let (id, role, depth) = known.get(parent).ok_or_else(|| tree("a message comes before its parent, or has none"))?;
            if *role == node.role {
                return Err(tree("questions and answers must take turns"));
            }
            Ok((Some(*id), depth + 1))
        }
    }
}

fn message(node: Node, id: MessageId, place: (Option<MessageId>, u32), now: Millis) -> Result<(ImportedMessage, Vec<ImportedAttachment>)> {
    let question = node.role == MessageRole::User;
    let content = check::clean(node.content);
    check::at_most("json", &content, if question { MESSAGE_MAX_BYTES } else { ANSWER_MAX_BYTES })?;
    if node.attachments.len() > if question { ATTACHMENTS_MAX } else { 0 } {
        return Err(Error::invalid("json", "too_many", "A message has too many attachments."));
    }
    let created_at = node.created_at.clamp(0, now);
    let texts = node.attachments.into_iter().map(|text| NewAttachment { name: text.name, content: text.content }).collect();
    let texts = check::attachments(texts)?
        .into_iter()
        .map(|text| ImportedAttachment {
            id: AttachmentId(Uuid::now_v7()),
            message_id: id,
            name: text.name,
            content: text.content,
            created_at,
        })
        .collect();
    let status = match node.status {
        _ if question => MessageStatus::Complete,
        // It was exported while it was being made.
        MessageStatus::Running => MessageStatus::Interrupted,
        ended => ended,
    };
    let mut stats = node.stats.filter(|_| !question);
    if let Some(stats) = &mut stats {
        stats.model = word(std::mem::take(&mut stats.model))?;
        stats.finish_reason = word(std::mem::take(&mut stats.finish_reason))?;
        for figure in
            [&mut stats.prompt_tokens, &mut stats.cached_tokens, &mut stats.completion_tokens, &mut stats.ttft_ms, &mut stats.duration_ms]
        {
            // The database counts in signed numbers.
            *figure = (*figure).min(i32::MAX.unsigned_abs());
        }
    }
    let rating = node.rating.filter(|_| !question);
    let rating_comment = check::clean(rating.as_ref().map_or_else(String::new, |rating| rating.comment.clone()));
    check::at_most("json", &rating_comment, MESSAGE_MAX_BYTES)?;
    let message = ImportedMessage {
        id,
        parent_id: place.0,
        role: node.role,
        content,
        status,
        error: node.error.filter(|_| status == MessageStatus::Interrupted).map(word).transpose()?,
        depth: place.1,
        stats,
        rating: rating.map(|rating| rating.value),
        rating_comment,
        created_at,
    };
    Ok((message, texts))
}

fn word(text: String) -> Result<String> {
    check::at_most("json", &text, WORD_MAX_BYTES)?;
    Ok(check::clean(text))
}

fn tree(what: &str) -> Error {
    Error::invalid("json", "bad_tree", format!("The messages do not form a chat: {what}."))
}

#[cfg(test)]
mod tests {
    use super::{parse, plan};
    use contract::chat::MessageStatus;
    use domain::Error;

    fn code(json: &str) -> &'static str {
        match parse(json).and_then(|documents| documents.into_iter().map(|document| plan(document, 1000)).collect::<Result<Vec<_>, _>>()) {
            Ok(_) => "ok",
            Err(Error::Invalid { field: Some("json"), code, .. }) => code,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn chat(messages: &str) -> String {
        format!(r#"{{"schema":"kontor.chat/1","conversation":{{"title":"t"}},"messages":[{messages}]}}"#)
    }

    #[test]
    fn what_is_no_chat_is_refused() {
        assert_eq!(code(&chat("")), "ok");
        assert_eq!(code("{"), "bad_json");
        assert_eq!(code("{}"), "bad_json");
        assert_eq!(code(r#"{"schema":"kontor.chat/2"}"#), "unknown_schema");
        assert_eq!(code(&chat(r#"{"id":"a","role":"assistant","content":""}"#)), "bad_tree");
        assert_eq!(code(&chat(r#"{"id":"a","role":"user","content":"","parent":"a"}"#)), "bad_tree");
        assert_eq!(code(&chat(r#"{"id":"a","role":"user","content":""},{"id":"a","role":"user","content":""}"#)), "bad_tree");
        assert_eq!(code(&chat(r#"{"id":"a","role":"user","content":""},{"id":"b","role":"user","content":"","parent":"a"}"#)), "bad_tree");
        let long = format!(r#"{{"id":"a","role":"user","content":"{}"}}"#, "x".repeat(70_000));
        assert_eq!(code(&chat(&long)), "too_long");
    }

    #[test]
    fn times_do_not_lie_in_the_future_and_nothing_runs() {
        let json = chat(
            r#"{"id":"a","role":"user","content":"q","created_at":9999999999999},
               {"id":"b","role":"assistant","content":"a","parent":"a","status":"running"}"#,
        );
        let plan = plan(parse(&json).expect("valid").remove(0), 1000).expect("valid");
        assert_eq!(plan.messages[0].created_at, 1000);
        assert_eq!(plan.messages[1].status, MessageStatus::Interrupted);
        assert_eq!((plan.messages[1].depth, plan.active_leaf), (1, Some(plan.messages[1].id)));
    }

    #[test]
    fn a_list_of_chats_is_fine() {
        assert_eq!(code(&format!("[{},{}]", chat(""), chat(""))), "ok");
    }
}

//! A chat as Markdown: the branch in view as one text, then every other branch from where it leaves.

use super::{
    Words,
    document::{Document, Node},
    words,
};
use crate::turns::fence;
use contract::{
    account::Language,
    chat::{MessageRole, MessageStatus},
};
use std::collections::{HashMap, HashSet};

/// The whole chat as Markdown with headings in the given language.
pub(crate) fn render(document: &Document, language: Language) -> String {
    let words = words(language);
    let mut text = format!("# {}\n", document.conversation.title);
    if !document.conversation.system_prompt.is_empty() {
        quote(&mut text, &document.conversation.system_prompt);
    }
    let path = active_path(document);
    for node in &path {
        message(&mut text, node, &words);
    }
    let seen: HashSet<&str> = path.iter().map(|node| node.id.as_str()).collect();
    branches(&mut text, document, seen, &words);
    text
}

/// From the beginning to the active leaf; without one, to the last message.
fn active_path(document: &Document) -> Vec<&Node> {
    let by_id: HashMap<&str, &Node> = document.messages.iter().map(|node| (node.id.as_str(), node)).collect();
    let leaf = document.conversation.active_leaf.as_deref().and_then(|id| by_id.get(id).copied()).or(document.messages.last());
    let mut path = Vec::new();
    let mut at = leaf;
    while let Some(node) = at {
        path.push(node);
        at = node.parent.as_deref().and_then(|parent| by_id.get(parent).copied());
    }
    path.reverse();
    path
}

/// What is not in view: each branch once, from its first message down. A branch within a branch comes after it.
fn branches<'a>(text: &mut String, document: &'a Document, mut seen: HashSet<&'a str>, words: &Words) {
    let mut children: HashMap<&str, Vec<&Node>> = HashMap::new();
    for node in &document.messages {
        children.entry(node.parent.as_deref().unwrap_or_default()).or_default().push(node);
    }
    for start in &document.messages {
        if seen.contains(start.id.as_str()) {
            continue;
        }
        text.push_str(&format!("\n---\n\n## {}\n", words.branch));
        let mut at = Some(start);
        while let Some(node) = at {
            seen.insert(&node.id);
            message(text, node, words);
            at = children.get(node.id.as_str()).and_then(|below| below.iter().copied().find(|child| !seen.contains(child.id.as_str())));
        }
    }
}

fn message(text: &mut String, node: &Node, words: &Words) {
    let heading = match node.role {
        MessageRole::User => words.question,
        MessageRole::Assistant => words.answer,
    };
    text.push_str(&format!("\n## {heading}\n\n"));
    for attachment in &node.attachments {
        let fence = fence(&attachment.content);
        text.push_str(&format!(
            "{} `{}`:\n\n{fence}\n{}\n{fence}\n\n",
            words.attachment,
            attachment.name.replace('`', "'"),
            attachment.content
        ));
    }
    text.push_str(node.content.trim_end());
    text.push('\n');
    if matches!(node.status, MessageStatus::Stopped | MessageStatus::Interrupted | MessageStatus::Running) {
        text.push_str(&format!("\n*{}*\n", words.unfinished));
    }
}

fn quote(text: &mut String, quoted: &str) {
    text.push('\n');
    for line in quoted.lines() {
        text.push_str(&format!("> {line}\n"));
    }
}

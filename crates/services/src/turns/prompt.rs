//! From a path of messages to what the model reads.

use contract::chat::MessageRole;
use inference::{ChatMessage, ChatRole};
use store::messages::PromptMessage;

/// Tokens that the chat template adds to a message.
const PER_MESSAGE: u32 = 8;
/// Tokens kept free for the template's own beginning and the answer's.
const SLACK: u32 = 64;
/// Bytes to load per token of context: more text than this never fits.
const BYTES_PER_TOKEN: i64 = 6;

/// How much text of a conversation is worth loading for a model.
pub(crate) fn bytes_worth_loading(context: u32) -> i64 {
    i64::from(context) * BYTES_PER_TOKEN
}

/// The profile's standing instructions and the chat's own system prompt as one; `None` without either.
pub(crate) fn system(instructions: &str, system_prompt: &str) -> Option<String> {
    let parts: Vec<&str> = [instructions.trim(), system_prompt.trim()].into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// What the model reads: the system prompt, then as much of the path's end as fits into `context` tokens beside
/// an answer. The oldest questions go first, each with its answer. What the answer is for always stays: the last
/// question, and with `continue_last` the unfinished answer.
pub(crate) fn build(
    system: Option<String>,
    path: Vec<PromptMessage>,
    context: u32,
    max_tokens: Option<u32>,
    continue_last: bool,
) -> Vec<ChatMessage> {
    let answer = max_tokens.unwrap_or(context / 4).min(context / 2);
    let fixed = system.as_deref().map_or(0, tokens).saturating_add(answer).saturating_add(SLACK);
    let mut room = context.saturating_sub(fixed);
    let must_stay = if continue_last { 2 } else { 1 };

    let mut kept: Vec<ChatMessage> = Vec::new();
    for (from_end, message) in without_refused(path).into_iter().rev().enumerate() {
        let message = render(message);
        let cost = tokens(&message.content);
        if from_end >= must_stay && cost > room {
            break;
        }
        room = room.saturating_sub(cost);
        kept.push(message);
    }
    kept.reverse();
    // An answer whose question is gone would be taken for the beginning.
    let questions = kept.iter().position(|message| message.role == ChatRole::User).unwrap_or(0);
    kept.drain(..questions);

    let mut messages: Vec<ChatMessage> = system.into_iter().map(|content| ChatMessage::new(ChatRole::System, content)).collect();
    let last = kept.len().saturating_sub(1);
    for (at, message) in kept.into_iter().enumerate() {
        push(&mut messages, message, at == last && continue_last);
    }
    messages
}

/// How many messages at the beginning are worth keeping computed: the system prompt, which all of a person's chats may begin
/// with. What follows it is found again while it is fresh, without being pinned.
pub(crate) fn pinned(messages: &[ChatMessage]) -> u32 {
    u32::from(messages.first().is_some_and(|first| first.role == ChatRole::System))
}

/// Questions that a guardrail or a content filter refused would be refused again, and all that follows with them.
fn without_refused(path: Vec<PromptMessage>) -> Vec<PromptMessage> {
    let mut kept: Vec<PromptMessage> = Vec::with_capacity(path.len());
    for message in path {
        if !message.refused {
            kept.push(message);
        } else if kept.last().is_some_and(|last| last.role == MessageRole::User) {
            kept.pop();
        }
    }
    kept
}

/// Appends a message. Templates want questions and answers in turn, so an empty answer (one that failed at once)
/// is left out and the questions around it become one.
fn push(messages: &mut Vec<ChatMessage>, message: ChatMessage, unfinished: bool) {
    if message.content.is_empty() && !unfinished {
        return;
    }
    match messages.last_mut() {
        Some(last) if last.role == message.role => {
            last.content.push_str("\n\n");
            last.content.push_str(&message.content);
        }
        _ => messages.push(message),
    }
}

fn render(message: PromptMessage) -> ChatMessage {
    let role = match message.role {
        MessageRole::User => ChatRole::User,
        MessageRole::Assistant => ChatRole::Assistant,
    };
    let mut content = String::new();
    for (name, text) in &message.attachments {
        let fence = fence(text);
        content.push_str(&format!("File {name}:\n{fence}\n{text}\n{fence}\n\n"));
    }
    content.push_str(&message.content);
    ChatMessage::new(role, content)
}

/// A fence that nothing in the text closes.
pub(crate) fn fence(text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat((longest + 1).max(3))
}

/// An estimate of tokens that errs on the large side: words of Latin script take about a third of a token a
/// letter, numbers one a digit, other scripts up to two a character.
pub(crate) fn tokens(text: &str) -> u32 {
    let hundredths: u64 = text.chars().map(|c| u64::from(cost(c))).sum();
    u32::try_from(hundredths.div_ceil(100)).unwrap_or(u32::MAX).saturating_add(PER_MESSAGE)
}

/// Hundredths of a token.
fn cost(c: char) -> u32 {
    match c {
        'a'..='z' | 'A'..='Z' => 33,
        ' ' => 15,
        '0'..='9' => 100,
        c if c.is_ascii() => 75,
        '\u{80}'..='\u{24f}' => 90,
        _ => 200,
    }
}

#[cfg(test)]
mod tests {
    use super::{build, fence, pinned, system, tokens};
    use contract::chat::MessageRole;
    use inference::ChatRole;
    use store::messages::PromptMessage;

    fn message(role: MessageRole, content: &str) -> PromptMessage {
        PromptMessage { role, content: content.into(), attachments: Vec::new(), refused: false }
    }

    fn path(pairs: usize) -> Vec<PromptMessage> {
        let mut path = Vec::new();
        for n in 0..pairs {
            path.push(message(MessageRole::User, &format!("question {n} {}", "word ".repeat(100))));
            path.push(message(MessageRole::Assistant, &format!("answer {n} {}", "word ".repeat(100))));
        }
        path.push(message(MessageRole::User, "last question"));
        path
    }

    #[test]
    fn everything_stays_while_it_fits() {
        let built = build(system("Be kind.", " "), path(2), 4096, None, false);
        let roles: Vec<ChatRole> = built.iter().map(|message| message.role).collect();
        assert_eq!(roles, [ChatRole::System, ChatRole::User, ChatRole::Assistant, ChatRole::User, ChatRole::Assistant, ChatRole::User]);
        assert_eq!(built[0].content, "Be kind.");
        assert_eq!((pinned(&built), pinned(&build(None, path(2), 4096, None, false))), (1, 0));
    }

    #[test]
    fn what_was_refused_is_not_asked_again() {
        let refused = PromptMessage { refused: true, ..message(MessageRole::Assistant, "") };
        let asked = vec![
            message(MessageRole::User, "first"),
            message(MessageRole::Assistant, "answer"),
            message(MessageRole::User, "forbidden"),
            refused,
            message(MessageRole::User, "second"),
        ];
        let built = build(None, asked, 4096, None, false);
        let texts: Vec<&str> = built.iter().map(|message| message.content.as_str()).collect();
        assert_eq!(texts, ["first", "answer", "second"]);
    }

    #[test]
    fn the_oldest_pairs_go_first_and_the_system_prompt_stays() {
        let built = build(system("A", "B"), path(50), 2048, None, false);
        assert_eq!(built[0].content, "A\n\nB");
        assert_eq!(built[1].role, ChatRole::User, "If you are here because this failed: an answer lost its question.");
        assert!(built[1].content.starts_with("question 4"), "{}", built[1].content);
        assert_eq!(built.last().expect("the question").content, "last question");
        let size: u32 = built.iter().map(|message| tokens(&message.content)).sum();
        assert!(size < 2048 - 512, "If you are here because this failed: no room is left for the answer ({size}).");
    }

    #[test]
    fn what_the_answer_is_for_stays_even_if_it_does_not_fit() {
        let mut path = path(1);
        path.push(message(MessageRole::Assistant, &"half ".repeat(3000)));
        let built = build(None, path, 512, None, true);
        assert_eq!(built.len(), 2);
        assert_eq!(built[0].content, "last question");
        assert_eq!(built[1].role, ChatRole::Assistant);
    }

    #[test]
    fn an_empty_answer_is_left_out() {
        let path = vec![message(MessageRole::User, "a"), message(MessageRole::Assistant, ""), message(MessageRole::User, "b")];
        let built = build(None, path, 4096, None, false);
        assert_eq!(built.len(), 1);
        assert_eq!(built[0].content, "a\n\nb");
        let unfinished = vec![message(MessageRole::User, "a"), message(MessageRole::Assistant, "")];
        assert_eq!(build(None, unfinished, 4096, None, true).len(), 2);
    }

    #[test]
    fn attachments_come_before_the_question_in_a_fence_that_holds() {
        let mut question = message(MessageRole::User, "What is it?");
        question.attachments.push(("a.md".into(), "```\ncode\n```".into()));
        let built = build(None, vec![question], 4096, None, false);
        assert_eq!(built[0].content, "File a.md:\n````\n```\ncode\n```\n````\n\nWhat is it?");
        assert_eq!(fence("plain"), "```");
    }
}

//! A long chat of generated Markdown, for measurements. The same arguments make the same text.

use super::document::{Document, Head, Node, SCHEMA};
use contract::{
    Millis,
    chat::{AnswerStats, MESSAGE_MAX_BYTES, MessageRole, MessageStatus},
    model::Sampling,
};
use domain::{Error, Result};

/// Most messages that can be asked for.
const MESSAGES_MAX: u32 = 10_000;
/// Pause between two messages of the generated chat.
const STEP_MS: Millis = 60_000;

/// `messages` messages, half of them questions, with about `bytes` bytes of text in all.
pub(crate) fn document(messages: u32, bytes: u32, now: Millis) -> Result<Document> {
    if !(2..=MESSAGES_MAX).contains(&messages) {
        return Err(Error::invalid("messages", "out_of_range", format!("messages must lie between 2 and {MESSAGES_MAX}.")));
    }
    let pairs = messages.div_ceil(2);
    let per_pair = usize::try_from(bytes / pairs).unwrap_or(usize::MAX);
    if per_pair > MESSAGE_MAX_BYTES {
        return Err(Error::invalid("bytes", "out_of_range", format!("That is more than {MESSAGE_MAX_BYTES} bytes for an answer.")));
    }
    let start = now - Millis::from(messages) * STEP_MS;
    let nodes = (0..messages).map(|number| node(number, per_pair, start)).collect();
    let head = Head {
        title: format!("A long chat with {messages} messages"),
        pinned: false,
        archived: false,
        model: None,
        system_prompt: String::new(),
        sampling: Sampling::default(),
        created_at: start,
        updated_at: now,
        active_leaf: None,
    };
    Ok(Document { schema: SCHEMA.into(), exported_at: now, conversation: head, messages: nodes })
}

fn node(number: u32, per_pair: usize, start: Millis) -> Node {
    let question = format!("Question {}: {}", number / 2 + 1, PROSE[usize::try_from(number / 2).unwrap_or(0) % PROSE.len()]);
    let is_question = number.is_multiple_of(2);
    let content = if is_question { question.clone() } else { answer(number / 2, per_pair.saturating_sub(question.len())) };
    let stats = AnswerStats {
        model: "generated".into(),
        completion_tokens: u32::try_from(content.len() / 4).unwrap_or(u32::MAX),
        finish_reason: "stop".into(),
        ..AnswerStats::default()
    };
    Node {
        id: number.to_string(),
        parent: number.checked_sub(1).map(|parent| parent.to_string()),
        role: if is_question { MessageRole::User } else { MessageRole::Assistant },
        content,
        status: MessageStatus::Complete,
        error: None,
        attachments: Vec::new(),
        rating: None,
        stats: (!is_question).then_some(stats),
        created_at: start + Millis::from(number) * STEP_MS,
    }
}

/// Blocks of different kinds until `bytes` are reached.
fn answer(number: u32, bytes: usize) -> String {
    let mut text = String::new();
    let mut block = usize::try_from(number).unwrap_or(0);
    while text.len() < bytes.max(40) {
        match block % 5 {
            0 | 3 => text.push_str(PROSE[block % PROSE.len()]),
            1 => text.push_str(CODE[block % CODE.len()]),
            2 => text.push_str(LIST),
            _ => text.push_str(TABLE),
        }
        text.push_str("\n\n");
        block += 1;
    }
    text
}

const PROSE: [&str; 4] = [
    "A *keyset* page carries the values of its last row instead of an offset, so that rows which arrive meanwhile neither repeat nor vanish. \
     It costs **one index lookup**, whatever the page.",
    "Die Größe eines Stapels bestimmt, wie oft der Rechner zwischen `prefill` und `decode` wechselt. Kleine Stapel antworten früher, \
     große Stapel schaffen mehr; dazwischen liegt der Alltag.",
    "For a series of measurements $x_1, \\dots, x_n$ the mean is $\\bar{x} = \\frac{1}{n}\\sum_{i=1}^{n} x_i$. Report the spread along with it.",
    "Wer einen Fehler meldet, nennt drei Dinge: was er tat, was er erwartete und was geschah. Alles andere findet sich im [Protokoll](https://example.org/log).",
];

const CODE: [&str; 3] = [
    "```rust\n/// Sums what is even.\nfn even_sum(numbers: &[u64]) -> u64 {\n    numbers.iter().copied().filter(|n| n % 2 == 0).sum()\n}\n```",
    "```python\ndef moving_average(values, width):\n    for end in range(width, len(values) + 1):\n        yield sum(values[end - width:end]) / width\n```",
    "```sql\nSELECT day, sum(tokens) AS tokens\nFROM usage\nWHERE day >= date '2026-01-01'\nGROUP BY day\nORDER BY day DESC;\n```",
];

const LIST: &str =
    "1. Measure first.\n2. Change one thing.\n   - Keep the old figure.\n   - Note the machine.\n3. Measure again, and *decide*.";

const TABLE: &str = "| Step | Time | Share |\n|---|---:|---:|\n| Parse | 12 ms | 8 % |\n| Plan | 31 ms | 21 % |\n| Run | 104 ms | 71 % |";

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn it_has_the_size_that_was_asked_for() {
        let document = document(1000, 500_000, 1_700_000_000_000).expect("valid");
        let bytes: usize = document.messages.iter().map(|node| node.content.len()).sum();
        assert_eq!(document.messages.len(), 1000);
        assert!((500_000..700_000).contains(&bytes), "{bytes}");
    }
}

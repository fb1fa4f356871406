//! Reads an answer aloud while it is being written: whole sentences, without Markdown's signs.

/// Cuts a growing answer into what can be said now.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes of the answer that were handed out.
    said: usize,
}

impl Reader {
    /// Begins after `said` bytes that need not be read (again).
    #[must_use]
    pub fn after(said: usize) -> Self {
        Self { said }
    }

    /// The sentences that were completed since the last call; `None` if there is none.
    pub fn next(&mut self, text: &str) -> Option<String> {
        let rest = text.get(self.said..)?;
        let end = sentence_end(rest)?;
        self.said += end;
        spoken(&rest[..end])
    }

    /// What is left when the answer has ended.
    pub fn finish(&mut self, text: &str) -> Option<String> {
        let rest = text.get(self.said..)?;
        self.said = text.len();
        spoken(rest)
    }
}

/// Where the last complete sentence ends.
fn sentence_end(text: &str) -> Option<usize> {
    let mut end = None;
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((ix, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let closes = match c {
            // `1.` at the start of a list item ends no sentence.
            '.' => !before.is_ascii_digit() && next.is_some_and(char::is_whitespace),
            '!' | '?' | '…' | ':' => next.is_some_and(char::is_whitespace),
            '\n' => true,
            _ => false,
        };
        if closes {
            end = Some(ix + c.len_utf8());
        }
        before = c;
    }
    end
}

/// The words without the signs that only make sense to the eye.
fn spoken(text: &str) -> Option<String> {
    let words: String = text
        .chars()
        .map(|c| match c {
            '\n' | '|' => ' ',
            c => c,
        })
        .filter(|c| !matches!(c, '*' | '`' | '#' | '_' | '~' | '>'))
        .collect();
    let words = words.split_whitespace().filter(|word| !word.chars().all(|c| matches!(c, '-' | ':' | '='))).collect::<Vec<_>>().join(" ");
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn chat_answers_are_read_by_sentence() {
        let mut reader = Reader::default();
        assert_eq!(reader.next("Hello wor"), None);
        assert_eq!(reader.next("Hello **world**. And"), Some("Hello world.".into()));
        assert_eq!(reader.next("Hello **world**. And 1.5 more"), None);
        assert_eq!(reader.next("Hello **world**. And 1.5 more! # Title\n\n- a"), Some("And 1.5 more! Title".into()));
        assert_eq!(reader.finish("Hello **world**. And 1.5 more! # Title\n\n- a"), Some("a".into()));
        assert_eq!(reader.finish("Hello **world**. And 1.5 more! # Title\n\n- a"), None);
    }

    #[test]
    fn chat_reading_survives_a_text_that_shrank() {
        let mut reader = Reader::after(10);
        assert_eq!(reader.next("ä"), None);
        assert_eq!(reader.finish("ä"), None);
    }
}

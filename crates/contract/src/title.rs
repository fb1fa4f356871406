//! Titles of chats that nobody has given one yet. Server and browser make the same one.

/// Longest makeshift title, in characters, without its ellipsis.
const FIRST_WORDS_CHARS: usize = 60;
/// What ends a title as little as a word does.
const JOINS: [char; 6] = [',', ';', ':', '.', '-', ' '];

/// Text with every run of white space and control characters as one blank.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The first words of a question as a makeshift title, else the name of its first attachment; never empty.
#[must_use]
pub fn first_words(question: &str, attachment: Option<&str>) -> String {
    let line = one_line(question);
    let line = if line.is_empty() { one_line(attachment.unwrap_or_default()) } else { line };
    if line.is_empty() { "…".into() } else { whole_words(&line, FIRST_WORDS_CHARS) }
}

/// As many words as fit into so many characters, with an ellipsis behind them if there are more. Only a word that would leave
/// next to nothing before it is divided.
#[must_use]
pub fn whole_words(line: &str, most: usize) -> String {
    let Some((end, next)) = line.char_indices().nth(most) else { return line.to_owned() };
    let cut = &line[..end];
    let cut = match cut.rfind(' ') {
        Some(at) if next != ' ' && cut[..at].chars().count() > most / 3 => &cut[..at],
        _ => cut,
    };
    format!("{}…", cut.trim_end_matches(JOINS))
}

#[cfg(test)]
mod tests {
    use super::{first_words, one_line, whole_words};

    #[test]
    fn a_line_has_no_breaks() {
        assert_eq!(one_line(" a\r\n\tb  c\u{7}"), "a b c");
    }

    #[test]
    fn a_makeshift_title_ends_at_a_word() {
        let german = "Erkläre mir bitte den Unterschied zwischen Miete und Pacht in einem Satz, ohne Fachwörter";
        assert_eq!(first_words(german, None), "Erkläre mir bitte den Unterschied zwischen Miete und Pacht…");
        let english = "Explain to me the difference between a lease and a rent in one sentence, please";
        assert_eq!(first_words(english, None), "Explain to me the difference between a lease and a rent in…");
        assert_eq!(first_words("Hello\n world", None), "Hello world");
        assert_eq!(first_words(" ", Some("notes.txt")), "notes.txt");
        assert_eq!(first_words("\n", None), "…");
    }

    #[test]
    fn words_are_counted_in_characters_and_divided_only_where_there_is_no_other_way() {
        assert_eq!(whole_words("äöü ß", 5), "äöü ß");
        assert_eq!(whole_words("äöü äöü", 3), "äöü…", "the border is a blank");
        assert_eq!(whole_words("äöü äöü", 5), "äöü…");
        assert_eq!(whole_words("eins, zwei drei", 6), "eins…");
        assert_eq!(whole_words(&"x".repeat(100), 60).chars().count(), 61);
        assert_eq!(whole_words(&format!("a {}", "x".repeat(100)), 60).chars().count(), 61);
    }
}

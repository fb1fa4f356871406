//! Full-text search over a user's own messages.
//!
//! What people type goes through `websearch_to_tsquery` (never fails, knows quotes, `or` and `-`) in three
//! dictionaries; the last word also matches as a prefix, so that hits appear while typing.

use crate::{
    chat_sql::{all, instant, millis, role, sql},
    prompts::MessageCursor,
    tx::TenantTx,
};
use contract::{
    chat::{SearchHit, SnippetPart},
    ids::UserId,
};
use domain::Result;
use sea_orm::FromQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

/// Marks the beginning of a hit in a snippet; private use, removed from the text before.
const HIT_BEGIN: char = '\u{E000}';
/// Marks the end of a hit in a snippet.
const HIT_END: char = '\u{E001}';

/// A search text, cut for the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// What `websearch_to_tsquery` reads.
    pub(crate) head: String,
    /// The last word, letters and digits only, to be matched as a prefix; may be empty.
    pub(crate) prefix: String,
}

impl Words {
    /// Cuts a search text. The last word is a prefix unless it belongs to a phrase or an operator.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let query = query.replace('\0', " ");
        let query = query.trim();
        let (head, last) = query.rsplit_once(char::is_whitespace).unwrap_or(("", query));
        let open_phrase = query.matches('"').count() % 2 == 1;
        let plain = !last.is_empty() && last.chars().all(char::is_alphanumeric) && !last.eq_ignore_ascii_case("or");
        let after_or = head.split_whitespace().next_back().is_some_and(|word| word.eq_ignore_ascii_case("or"));
        if plain && !open_phrase && !after_or {
            Self { head: head.trim().into(), prefix: last.into() }
        } else {
            Self { head: query.into(), prefix: String::new() }
        }
    }

    /// Nothing to search for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.prefix.is_empty()
    }
}

/// The query of `$1` (head) and `$2` (prefix) in each dictionary, and all of them together as `whole`.
/// An empty part drops out of `&&`.
pub(crate) fn words_sql() -> String {
    let part = |dictionary: &str| {
        format!(
            "websearch_to_tsquery('{dictionary}', $1)
               && CASE WHEN $2::text = '' THEN ''::tsquery ELSE to_tsquery('simple', $2 || ':*') || plainto_tsquery('{dictionary}', $2) END"
        )
    };
    format!(
        "SELECT plain, german, english, plain || german || english AS whole
         FROM (SELECT {} AS plain, {} AS german, {} AS english) parts",
        part("simple"),
        part("german"),
        part("english")
    )
}

/// A text without the marks of its Markdown, as far as they would be in the way of a reader of a snippet: emphasis and code
/// of whole words, addresses of links, what lines of headings, quotes, lists and tables begin and end with.
fn plain_sql(text: &str) -> String {
    let unlinked = format!(r"regexp_replace({text}, '!?\[([^]\n]*)\]\((https?:|mailto:|/|#)[^)\s]*\)', '\1', 'g')");
    let unstressed = format!(r"regexp_replace({unlinked}, '(^|[\s(|])(\*\*|`)([^*`\n]+)\2', '\1\3', 'g')");
    format!(r"regexp_replace({unstressed}, '^[ \t]*((#+|>|[-*+]|\|)[ \t]+)+|[ \t]*\|[ \t]*$|^[ \t|:-]+$|^[ \t]*```.*$', '', 'gn')")
}

/// Repository of the search.
#[derive(Debug)]
pub struct Search<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    conversation_id: Uuid,
    title: String,
    role: String,
    created_at: OffsetDateTime,
    snippet: String,
}

impl<'a> Search<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// The user's messages that match, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, user: UserId, words: &Words, after: Option<MessageCursor>, limit: u32) -> Result<Vec<SearchHit>> {
        let (created_at, id) = match after {
            Some(after) => (Some(instant(after.created_at)?), Some(after.id.0)),
            None => (None, None),
        };
        // Snippets are cut for the rows of the page only, with the first dictionary that finds something in them: in what people
        // read, or where only its Markdown has the words, as in the address of a link, in that.
        let text = format!(
            "WITH q AS MATERIALIZED ({}),
                  hit AS MATERIALIZED (
                    SELECT m.id, m.conversation_id, c.title, m.role, m.created_at, translate(m.content, '{HIT_BEGIN}{HIT_END}', '') AS content
                    FROM message m JOIN conversation c ON c.id = m.conversation_id, q
                    WHERE m.user_id = $3 AND c.deleted_at IS NULL AND m.search @@ q.whole
                      AND ($5::uuid IS NULL OR (m.created_at, m.id) < ($4::timestamptz, $5::uuid))
                    ORDER BY m.created_at DESC, m.id DESC LIMIT $6
                  ),
                  page AS MATERIALIZED (SELECT hit.*, {} AS plain FROM hit)
             SELECT page.id, page.conversation_id, page.title, page.role, page.created_at,
                    ts_headline(found.dictionary::regconfig, found.text, q.whole,
                                'StartSel={HIT_BEGIN}, StopSel={HIT_END}, MaxWords=30, MinWords=12, MaxFragments=2, FragmentDelimiter=\" … \"') AS snippet
             FROM page, q, LATERAL (
                    SELECT tried.dictionary, tried.text
                    FROM (VALUES (1, 'simple', page.plain, q.plain), (2, 'german', page.plain, q.german), (3, 'english', page.plain, q.english),
                                 (4, 'simple', page.content, q.plain), (5, 'german', page.content, q.german), (6, 'english', page.content, NULL))
                         AS tried (rank, dictionary, text, words)
                    WHERE tried.words IS NULL OR to_tsvector(tried.dictionary::regconfig, tried.text) @@ tried.words
                    ORDER BY tried.rank LIMIT 1
                  ) found
             ORDER BY page.created_at DESC, page.id DESC",
            words_sql(),
            plain_sql("hit.content")
        );
        let statement = sql(
            &text,
            [words.head.clone().into(), words.prefix.clone().into(), user.0.into(), created_at.into(), id.into(), i64::from(limit).into()],
        );
        let rows = all::<Row>(self.tx.conn(), statement).await?;
        rows.into_iter()
            .map(|row| {
                Ok(SearchHit {
                    conversation: row.conversation_id.into(),
                    message: row.id.into(),
                    title: row.title,
                    role: role(&row.role)?,
                    snippet: parts(&row.snippet),
                    created_at: millis(row.created_at),
                })
            })
            .collect()
    }
}

/// Cuts a marked snippet into plain and matching pieces.
fn parts(marked: &str) -> Vec<SnippetPart> {
    let mut parts = Vec::new();
    let mut push = |text: &str, hit: bool| {
        if !text.is_empty() {
            parts.push(SnippetPart { text: text.into(), hit });
        }
    };
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(HIT_BEGIN) {
        push(before, false);
        let (hit, tail) = after.split_once(HIT_END).unwrap_or((after, ""));
        push(hit, true);
        rest = tail;
    }
    push(rest, false);
    parts
}

#[cfg(test)]
mod tests {
    use super::{Words, parts};

    fn words(query: &str) -> (String, String) {
        let words = Words::parse(query);
        (words.head, words.prefix)
    }

    #[test]
    fn the_last_plain_word_is_a_prefix() {
        assert_eq!(words("  tax law 20 "), ("tax law".into(), "20".into()));
        assert_eq!(words("Häus"), (String::new(), "Häus".into()));
    }

    #[test]
    fn phrases_and_operators_are_left_to_websearch() {
        for query in ["\"tax law\"", "\"tax la", "tax -law", "tax or law", "tax or", "c++"] {
            assert_eq!(words(query), (query.into(), String::new()), "{query}");
        }
        assert!(Words::parse(" \0 ").is_empty());
    }

    #[test]
    fn a_snippet_is_cut_at_its_marks() {
        let cut: Vec<(String, bool)> = parts("a \u{E000}b\u{E001} c\u{E000}d").into_iter().map(|part| (part.text, part.hit)).collect();
        assert_eq!(cut, [("a ".into(), false), ("b".into(), true), (" c".into(), false), ("d".into(), true)]);
    }
}

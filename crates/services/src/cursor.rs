//! Opaque page cursors: where the next page begins, never an offset.

use contract::{
    Millis,
    ids::{ConversationId, MessageId},
};
use domain::{Error, Result};
use store::{conversations::ConversationCursor, prompts::MessageCursor};
use uuid::Uuid;

/// Rows of one page of a list.
pub(crate) const PAGE: u32 = 50;

/// Cuts `rows` (fetched with one more than `page`) to the page; the cursor of its last row if there is more.
pub(crate) fn cut<T>(mut rows: Vec<T>, page: u32, cursor: impl Fn(&T) -> String) -> contract::page::Page<T> {
    let page = usize::try_from(page).unwrap_or(usize::MAX);
    let more = rows.len() > page;
    rows.truncate(page);
    let next = if more { rows.last().map(cursor) } else { None };
    contract::page::Page { items: rows, next }
}

pub(crate) fn conversation(pinned: bool, updated_at: Millis, id: ConversationId) -> String {
    format!("{}.{updated_at}.{}", u8::from(pinned), id.0.simple())
}

pub(crate) fn message(created_at: Millis, id: MessageId) -> String {
    format!("{created_at}.{}", id.0.simple())
}

pub(crate) fn parse_conversation(cursor: Option<&str>) -> Result<Option<ConversationCursor>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let parsed = cursor.split_once('.').and_then(|(pinned, rest)| {
        let pinned = match pinned {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let (updated_at, id) = instant_and_id(rest)?;
        Some(ConversationCursor { pinned, updated_at, id: id.into() })
    });
    parsed.map(Some).ok_or_else(bad)
}

pub(crate) fn parse_message(cursor: Option<&str>) -> Result<Option<MessageCursor>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let (created_at, id) = instant_and_id(cursor).ok_or_else(bad)?;
    Ok(Some(MessageCursor { created_at, id: id.into() }))
}

fn instant_and_id(text: &str) -> Option<(Millis, Uuid)> {
    let (at, id) = text.split_once('.')?;
    let at: Millis = at.parse().ok()?;
    // Within what Postgres and `time` can express.
    (0..=253_402_300_799_999).contains(&at).then_some(())?;
    Some((at, id.parse().ok()?))
}

fn bad() -> Error {
    Error::invalid("cursor", "bad_cursor", "This cursor was not made by this list.")
}

#[cfg(test)]
mod tests {
    use super::{conversation, cut, message, parse_conversation, parse_message};
    use uuid::Uuid;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let id = Uuid::now_v7();
        let parsed = parse_conversation(Some(&conversation(true, 42, id.into()))).expect("valid").expect("some");
        assert!(parsed.pinned && parsed.updated_at == 42 && parsed.id.0 == id);
        let parsed = parse_message(Some(&message(7, id.into()))).expect("valid").expect("some");
        assert!(parsed.created_at == 7 && parsed.id.0 == id);
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in ["", ".", "1.2", "2.1.0198f0b0-0000-7000-8000-000000000000", "0.99999999999999999.x", "' OR 1=1"] {
            assert!(parse_conversation(Some(nonsense)).is_err(), "{nonsense}");
            assert!(parse_message(Some(nonsense)).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_full_page_without_more_has_no_cursor() {
        assert_eq!(cut(vec![1, 2], 2, ToString::to_string).next, None);
        assert_eq!(cut(vec![1, 2, 3], 2, ToString::to_string).next, Some("2".into()));
    }
}

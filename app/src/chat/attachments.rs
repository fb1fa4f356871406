//! Texts on their way to the server with a question.

use contract::chat::{ATTACHMENT_MAX_BYTES, ATTACHMENTS_MAX, NewAttachment};
use wasm_bindgen_futures::JsFuture;

/// Why something was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More than [`ATTACHMENT_MAX_BYTES`].
    TooLarge,
    /// More than [`ATTACHMENTS_MAX`].
    TooMany,
    /// Nothing in it.
    Empty,
    /// Not a text.
    NotText,
    /// The browser could not read it.
    Unreadable,
}

/// Reads a file as text.
///
/// # Errors
/// Why it cannot be attached.
pub async fn read(file: &web_sys::File) -> Result<NewAttachment, Refusal> {
    if file.size() > ATTACHMENT_MAX_BYTES as f64 {
        return Err(Refusal::TooLarge);
    }
    let text = JsFuture::from(file.text()).await.map_err(|_| Refusal::Unreadable)?;
    checked(file.name(), text.as_string().ok_or(Refusal::Unreadable)?)
}

/// An attachment, if the content is one.
///
/// # Errors
/// Why not.
pub fn checked(name: String, content: String) -> Result<NewAttachment, Refusal> {
    if content.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    if content.len() > ATTACHMENT_MAX_BYTES {
        return Err(Refusal::TooLarge);
    }
    // Zero bytes, or many that are no UTF-8 (the browser writes U+FFFD for them): a picture, an archive.
    let broken = content.chars().take(4_096).filter(|c| matches!(c, '\0' | '\u{FFFD}')).count();
    if content.contains('\0') || broken > 8 {
        return Err(Refusal::NotText);
    }
    Ok(NewAttachment { name, content })
}

/// Adds an attachment to those that are there, under a name of its own.
///
/// # Errors
/// [`Refusal::TooMany`].
pub fn add(present: &mut Vec<NewAttachment>, mut attachment: NewAttachment) -> Result<(), Refusal> {
    if present.len() >= ATTACHMENTS_MAX {
        return Err(Refusal::TooMany);
    }
    let name = attachment.name.clone();
    let (stem, extension) =
        name.rsplit_once('.').map_or((name.as_str(), String::new()), |(stem, extension)| (stem, format!(".{extension}")));
    let mut number = 2;
    while present.iter().any(|other| other.name == attachment.name) {
        attachment.name = format!("{stem} {number}{extension}");
        number += 1;
    }
    present.push(attachment);
    Ok(())
}

/// A size for people: `812 B`, `12 kB`, `1.5 MB`.
#[must_use]
pub fn size(bytes: u32) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        _ => format!("{:.1} MB", f64::from(bytes) / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, add, checked, size};
    use contract::chat::{ATTACHMENT_MAX_BYTES, ATTACHMENTS_MAX};

    #[test]
    fn chat_attachments_are_texts_of_bounded_size() {
        assert!(checked("a.txt".into(), "x".into()).is_ok());
        assert_eq!(checked("a".into(), " \n".into()), Err(Refusal::Empty));
        assert_eq!(checked("a".into(), "PNG\0".into()), Err(Refusal::NotText));
        assert_eq!(checked("a".into(), "x".repeat(ATTACHMENT_MAX_BYTES + 1)), Err(Refusal::TooLarge));
    }

    #[test]
    fn chat_attachments_have_names_of_their_own() {
        let mut list = Vec::new();
        for _ in 0..ATTACHMENTS_MAX {
            assert_eq!(checked("a.txt".into(), "x".into()).and_then(|new| add(&mut list, new)), Ok(()));
        }
        assert_eq!(list[1].name, "a 2.txt");
        assert_eq!(checked("b".into(), "x".into()).and_then(|new| add(&mut list, new)), Err(Refusal::TooMany));
    }

    #[test]
    fn chat_sizes_are_readable() {
        assert_eq!([size(12), size(1_001), size(1_500_000)], ["12 B", "2 kB", "1.5 MB"]);
    }
}

//! Newline-delimited JSON out of network chunks, whose borders lie anywhere, also within a character.

use super::backend::BackendError;
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;

/// Longest line, in bytes: far above any event, far below what would hurt.
const LONGEST_LINE: usize = 1024 * 1024;

/// Collects chunks and hands out whole lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// The bytes before this hold no newline.
    searched: usize,
}

impl Lines {
    /// Takes the next chunk.
    pub(crate) fn push(&mut self, chunk: &Bytes) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line, decoded; `None` until more chunks came. Empty lines are skipped.
    ///
    /// # Errors
    /// [`BackendError::Protocol`] for a line that is too long or not a `T`.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BackendError> {
        while let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + length + 1);
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return serde_json::from_slice(&line).map(Some).map_err(|error| BackendError::Protocol(error.to_string()));
            }
        }
        self.searched = self.buffer.len();
        if self.buffer.len() > LONGEST_LINE {
            return Err(BackendError::Protocol(format!("a line is longer than {LONGEST_LINE} bytes")));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LINE, Lines};
    use crate::pool::BackendError;
    use bytes::Bytes;
    use worker_protocol::Event;

    fn all(chunks: impl IntoIterator<Item = Bytes>) -> Vec<Event> {
        let mut lines = Lines::default();
        let mut events = Vec::new();
        for chunk in chunks {
            lines.push(&chunk);
            while let Some(event) = lines.next().expect("valid") {
                events.push(event);
            }
        }
        events
    }

    #[test]
    fn chunk_borders_do_not_matter_not_even_within_a_character() {
        let events: Vec<Event> = ["Grüße, ẞ", "🦀"]
            .iter()
            .enumerate()
            .map(|(n, text)| Event::Text { choice: 0, text: (*text).into(), completion_tokens: n as u32, logprobs: Vec::new() })
            .collect();
        let wire = events.iter().map(|event| serde_json::to_string(event).expect("serialises") + "\n").collect::<Vec<_>>().join("\n");
        let wire = Bytes::from(wire);
        for size in 1..=wire.len() {
            let chunks = wire.chunks(size).map(Bytes::copy_from_slice);
            assert_eq!(all(chunks), events, "chunks of {size} bytes. If you are here because this failed: a chunk border tore an event.");
        }
    }

    #[test]
    fn a_line_that_never_ends_or_is_no_event_is_refused() {
        let mut lines = Lines::default();
        lines.push(&Bytes::from(vec![b'x'; LONGEST_LINE + 1]));
        assert!(matches!(lines.next::<Event>(), Err(BackendError::Protocol(_))));
        let mut lines = Lines::default();
        lines.push(&Bytes::from_static(b"{\"type\":\"surprise\"}\n"));
        assert!(matches!(lines.next::<Event>(), Err(BackendError::Protocol(_))));
    }
}

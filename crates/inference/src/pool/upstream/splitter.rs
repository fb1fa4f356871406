//! Server-sent events out of the pieces that the network cuts them into.
//!
//! Source: the HTML standard, "Server-sent events". Only the data matter here: what kind an event is they tell themselves,
//! and nobody resumes an answer by an event's id.

use super::super::backend::BackendError;
use std::{mem, ops::ControlFlow};

/// Longest event that is read, in bytes.
pub(super) const LONGEST_EVENT: usize = 4 * 1024 * 1024;

/// What a text in UTF-8 may begin with.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whether the data that come after are wanted, too.
pub(super) type Taken = Result<ControlFlow<()>, BackendError>;

/// What has come of an event that is not complete.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// Its unfinished line.
    line: Vec<u8>,
    /// Its data so far, each line of them with an end.
    data: String,
    /// The last line ended with a carriage return; a line feed that follows belongs to that.
    after_return: bool,
    /// The first line has ended.
    begun: bool,
}

impl Splitter {
    /// Turns the data of each event over that is complete with this chunk, unless they are empty. An event that is not
    /// complete when the answer ends is none.
    ///
    /// # Errors
    /// Those of `each`; an event is too long; data are not UTF-8.
    pub(super) fn take(&mut self, chunk: &[u8], mut each: impl FnMut(&str) -> Taken) -> Taken {
        let mut rest = chunk;
        // Nearly all events have one line of data, which lies in one chunk: it is turned over where it is.
        let mut only: Option<&str> = None;
        while let Some(first) = rest.first() {
            if mem::take(&mut self.after_return) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.check(piece.len() + only.map_or(0, str::len))?;
            let Some((end, after)) = after.split_first() else {
                self.line.extend_from_slice(piece);
                break;
            };
            self.after_return = *end == b'\r';
            rest = after;
            if !self.line.is_empty() {
                self.end_line(piece)?;
                continue;
            }
            let line = self.without_mark(piece);
            if line.is_empty() {
                if self.end_event(only.take(), &mut each)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            } else if let Some(value) = data_of(line)?
                && let Some(before) = only.replace(value)
            {
                self.keep(before);
            }
        }
        if let Some(value) = only {
            self.keep(value);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// `more`: bytes that are about to be kept.
    fn check(&self, more: usize) -> Result<(), BackendError> {
        if self.line.len() + self.data.len() + more > LONGEST_EVENT {
            return Err(BackendError::Protocol(format!("an event is longer than {LONGEST_EVENT} bytes")));
        }
        Ok(())
    }

    /// The rest of a line that began in an earlier chunk.
    fn end_line(&mut self, rest: &[u8]) -> Result<(), BackendError> {
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(rest);
        if let Some(value) = data_of(self.without_mark(&line))? {
            self.keep(value);
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn end_event(&mut self, last: Option<&str>, each: &mut impl FnMut(&str) -> Taken) -> Taken {
        if let Some(last) = last {
            if self.data.is_empty() {
                return tell(last, each);
            }
            self.keep(last);
        }
        let taken = tell(self.data.strip_suffix('\n').unwrap_or_default(), each);
        self.data.clear();
        taken
    }

    fn without_mark<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        if mem::replace(&mut self.begun, true) { line } else { line.strip_prefix(MARK).unwrap_or(line) }
    }

    fn keep(&mut self, value: &str) {
        self.data.push_str(value);
        self.data.push('\n');
    }
}

fn tell(data: &str, each: &mut impl FnMut(&str) -> Taken) -> Taken {
    if data.is_empty() { Ok(ControlFlow::Continue(())) } else { each(data) }
}

/// A line's data; `None` if it is another field or a comment.
fn data_of(line: &[u8]) -> Result<Option<&str>, BackendError> {
    let Some(value) = line.strip_prefix(b"data:") else { return Ok(None) };
    let value = str::from_utf8(value.strip_prefix(b" ").unwrap_or(value));
    value.map(Some).map_err(|error| BackendError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{BackendError, ControlFlow, LONGEST_EVENT, Splitter};

    fn feed(splitter: &mut Splitter, chunk: &[u8], told: &mut Vec<String>) -> Result<(), BackendError> {
        let taken = splitter.take(chunk, |data| {
            told.push(data.to_owned());
            Ok(ControlFlow::Continue(()))
        });
        taken.map(|_| ())
    }

    /// The data of these bytes in pieces of at most so many.
    fn split(bytes: &[u8], size: usize) -> Vec<String> {
        let (mut splitter, mut told) = (Splitter::default(), Vec::new());
        for chunk in bytes.chunks(size) {
            feed(&mut splitter, chunk, &mut told).unwrap();
        }
        told
    }

    #[test]
    fn however_an_answer_is_cut_its_data_are_the_same() {
        let answer = "\u{feff}data: first\n\n\
            : a comment\n\n\
            event: delta\nid: 7\ndata: {\"a\":\n: within\ndata:\"é\"}\nretry: 3\n\n\
            data:\n\ndata\n\n\n\
            data:  two spaces\n\n\
            database: none\ndata : none\n\n\
            data: [DONE]\n\n\
            data: without a blank line\n";
        let expected = ["first", "{\"a\":\n\"é\"}", " two spaces", "[DONE]"];
        for end in ["\n", "\r", "\r\n"] {
            let answer = answer.replace('\n', end);
            let bytes = answer.as_bytes();
            for size in 1..=bytes.len() {
                assert_eq!(split(bytes, size), expected, "{end:?} in pieces of {size}");
            }
            for at in 0..bytes.len() {
                let (mut splitter, mut told) = (Splitter::default(), Vec::new());
                for chunk in [&bytes[..at], &[], &bytes[at..]] {
                    feed(&mut splitter, chunk, &mut told).unwrap();
                }
                assert_eq!(told, expected, "{end:?} cut at {at}");
            }
        }
    }

    #[test]
    fn only_a_blank_line_ends_an_event_and_a_mark_is_one_at_the_beginning_alone() {
        assert_eq!(split(b"data: a\r\n\ndata: b\n\r\ndata: c\n\n", 1), ["a", "b", "c"]);
        assert_eq!(split(b"data: a\r\ndata: b\r\n\r\n", 2), ["a\nb"], "a line's end of two bytes is no blank line");
        assert_eq!(split("\n\u{feff}data: a\n\ndata: b\n\n".as_bytes(), 100), ["b"]);
        assert!(split(b"data: a\n", 100).is_empty() && split(b"data: a", 100).is_empty());
    }

    #[test]
    fn nothing_is_told_after_the_last_that_is_wanted() {
        let (mut splitter, mut told) = (Splitter::default(), Vec::new());
        let taken = splitter.take(b"data: a\n\ndata: b\n\ndata: \xFF\n\n", |data| {
            told.push(data.to_owned());
            Ok(if data == "b" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        assert_eq!((taken, told), (Ok(ControlFlow::Break(())), vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_is_not_text_is_refused_and_characters_may_be_cut() {
        assert_eq!(split("data: é€\n\n".as_bytes(), 1), ["é€"]);
        let refused = feed(&mut Splitter::default(), b"data: \xFF\n\n", &mut Vec::new());
        assert!(matches!(refused, Err(BackendError::Protocol(_))), "{refused:?}");
    }

    #[test]
    fn events_may_be_many_but_none_without_end() {
        let half = [b"data: ", vec![b'x'; LONGEST_EVENT / 2].as_slice()].concat();
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let (mut splitter, mut told) = (Splitter::default(), Vec::new());
            for _ in 0..5 {
                feed(&mut splitter, &half, &mut told).unwrap();
                // However the pieces are cut.
                for byte in end.bytes() {
                    feed(&mut splitter, &[byte], &mut told).unwrap();
                }
            }
            assert_eq!(told.len(), 5);
            let line_end = &end.as_bytes()[..end.len() / 2];
            feed(&mut splitter, &half, &mut told).unwrap();
            feed(&mut splitter, line_end, &mut told).unwrap();
            let refused = feed(&mut splitter, &half, &mut told);
            assert!(matches!(refused, Err(BackendError::Protocol(_))), "a line's end {end:?} is no event's");
            let at_once = [half.as_slice(), line_end, half.as_slice(), end.as_bytes()].concat();
            let refused = feed(&mut Splitter::default(), &at_once, &mut told);
            assert!(matches!(refused, Err(BackendError::Protocol(_))), "in one chunk it is as long");
            assert_eq!(told.len(), 5);
        }
        let line = feed(&mut Splitter::default(), &vec![b':'; LONGEST_EVENT + 1], &mut Vec::new());
        assert!(matches!(line, Err(BackendError::Protocol(_))), "whatever it is, it would be kept");
    }
}

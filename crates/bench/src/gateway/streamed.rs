//! Reading a streamed answer: when each piece of text came, and whether all did.

use std::time::{Duration, Instant};

use super::client::{Caller, Make};
use super::upstream::PIECE;
use crate::Result;

/// A streamed answer, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Streamed {
    /// From asking to the first piece.
    pub first: Option<Duration>,
    /// Between two pieces each; none where a gateway put several into one.
    pub gaps: Vec<Duration>,
    pub pieces: u32,
    /// `[DONE]` came.
    pub done: bool,
    /// From asking to the end.
    pub took: Duration,
}

/// Asks and reads.
///
/// # Errors
/// It is refused, or the connection broke.
pub async fn read(caller: &mut Caller, make: Make<'_>) -> Result<Streamed> {
    let begin = Instant::now();
    let status = caller.send(make).await?;
    if !status.is_success() {
        return Err(format!("a stream was refused with HTTP status {status}").into());
    }
    let (mut streamed, mut events) = (Streamed::default(), Events::default());
    let (mut last, mut more) = (begin, true);
    while more {
        let mut came = 0;
        more = caller.more(|bytes| came += events.take(bytes)).await?;
        if came == 0 {
            continue;
        }
        let now = Instant::now();
        match streamed.first {
            None => streamed.first = Some(now - begin),
            Some(_) => streamed.gaps.push(now - last),
        }
        streamed.gaps.extend((1..came).map(|_| Duration::ZERO));
        streamed.pieces += came;
        last = now;
    }
    streamed.done = events.done;
    streamed.took = begin.elapsed();
    Ok(streamed)
}

/// Counts the pieces of text in an event stream, however its bytes are cut.
#[derive(Debug, Default)]
pub struct Events {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// `[DONE]` came.
    done: bool,
}

impl Events {
    /// Takes in what came; how many pieces of text are complete with it.
    pub fn take(&mut self, bytes: &[u8]) -> u32 {
        let (mut pieces, mut left) = (0, bytes);
        while let Some(end) = memchr::memchr(b'\n', left) {
            let (line, rest) = left.split_at(end);
            left = &rest[1..];
            if self.begun.is_empty() {
                pieces += self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(line);
                pieces += self.line(&whole);
            }
        }
        self.begun.extend_from_slice(left);
        pieces
    }

    fn line(&mut self, line: &[u8]) -> u32 {
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { return 0 };
        self.done |= data == b"[DONE]";
        // The space at its end may be gone: some gateways trim.
        let Some((last, before)) = PIECE.trim_end().as_bytes().split_last() else { return 0 };
        // A piece's last letter is rare in the rest of an event, so there is next to nothing to compare.
        let count = memchr::memchr_iter(*last, data).filter(|at| data[..*at].ends_with(before)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    const STREAM: &str = concat!(
        ": ping\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"tick \"}}]}\n\n",
        "data:{\"choices\":[{\"delta\":{\"content\":\"tick tick \"}}]}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn pieces_are_counted_however_the_bytes_are_cut() {
        for size in [1, 2, 3, 7, 64, STREAM.len()] {
            let mut events = Events::default();
            let came: u32 = STREAM.as_bytes().chunks(size).map(|bytes| events.take(bytes)).sum();
            assert_eq!((came, events.done), (3, true), "in chunks of {size}");
        }
    }

    #[test]
    fn a_lost_piece_and_a_missing_end_are_seen() {
        let mut events = Events::default();
        let cut = STREAM.replacen("tick tick ", "tick ", 1).replace("data: [DONE]\n\n", "");
        assert_eq!((events.take(cut.as_bytes()), events.done), (2, false));
        let mut events = Events::default();
        assert_eq!(events.take(b"event: tick\nid: tick\n\n"), 0);
        assert_eq!(events.take(b"data: {\"content\":\"ti"), 0, "a line is not complete yet");
    }
}

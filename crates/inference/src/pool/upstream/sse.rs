//! An answer that comes as server-sent events, whatever dialect they are in.

use super::{
    super::{
        backend::{BackendError, EventStream},
        http,
    },
    splitter::Splitter,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::Response;
use std::{collections::VecDeque, ops::ControlFlow, time::Duration};
use tokio::{
    task::coop::consume_budget,
    time::{Instant, timeout_at},
};
use worker_protocol::{Event, Timings};

/// Most bytes of an answer's calls: they are held until they are complete.
const MOST_HELD: usize = 1024 * 1024;
/// Most bytes of data in one answer, whatever they say: what waits for a reader is bounded by that.
const MOST_DATA: usize = 64 * 1024 * 1024;
/// Bytes of a text that is made of pieces.
const MOST_JOINED: usize = 64 * 1024;

/// Turns the data of one event after the other over.
pub(super) trait Reader: Send {
    /// # Errors
    /// It makes no sense, or says that the server failed.
    fn take(&mut self, data: &str) -> Result<Vec<Event>, BackendError>;

    /// No more comes. Some servers close without a last word.
    ///
    /// # Errors
    /// The answer is not complete.
    fn finish(&mut self) -> Result<Vec<Event>, BackendError>;
}

/// The events of an answer that has begun.
pub(super) fn events(response: Response, reader: Box<dyn Reader>, first: Duration, idle: Duration) -> EventStream {
    let chunks = response.bytes_stream().map(|chunk| chunk.map_err(http::lost));
    follow(chunks, reader, first, idle).boxed()
}

fn follow(
    chunks: impl Stream<Item = Result<Bytes, BackendError>> + Send + 'static,
    reader: Box<dyn Reader>,
    first: Duration,
    idle: Duration,
) -> impl Stream<Item = Result<Event, BackendError>> + Send {
    let reading = Reading { splitter: Splitter::default(), reader, ready: VecDeque::new(), room: MOST_DATA, over: false };
    stream::unfold((Box::pin(chunks), reading, first), move |(mut chunks, mut reading, patience)| async move {
        let mut deadline = None;
        loop {
            if let Some(event) = reading.ready.pop_front() {
                return Some((event, (chunks, reading, idle)));
            }
            if reading.over {
                return None;
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + patience);
            // However much is there already: others have their turn in between.
            consume_budget().await;
            match timeout_at(until, chunks.next()).await {
                Err(_) => reading.fail(silent(patience)),
                Ok(Some(Ok(chunk))) => {
                    // Comments alone are the signs of life of a proxy, not of the model.
                    if reading.take(&chunk) {
                        deadline = None;
                    } else if !reading.over && Instant::now() >= until {
                        // While chunks are at hand, nobody else looks at the time.
                        reading.fail(silent(patience));
                    }
                }
                Ok(Some(Err(error))) => reading.fail(error),
                Ok(None) => reading.finish(),
            }
        }
    })
}

fn silent(patience: Duration) -> BackendError {
    BackendError::Failing(format!("nothing came for {patience:?}"))
}

/// An answer that is being read.
struct Reading {
    splitter: Splitter,
    reader: Box<dyn Reader>,
    /// What came of it and nobody has taken.
    ready: VecDeque<Result<Event, BackendError>>,
    /// Bytes of data that may still come.
    room: usize,
    /// Nothing more is read.
    over: bool,
}

impl Reading {
    /// Returns whether any data came.
    fn take(&mut self, chunk: &[u8]) -> bool {
        let Self { splitter, reader, ready, room, over } = self;
        let mut came = false;
        let taken = splitter.take(chunk, |data| {
            came = true;
            *room = room
                .checked_sub(data.len())
                .ok_or_else(|| BackendError::Protocol(format!("an answer is longer than {MOST_DATA} bytes")))?;
            for event in reader.take(data)? {
                *over |= matches!(event, Event::Done { .. } | Event::Failed { .. });
                join(ready, event);
            }
            Ok(if *over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        if let Err(error) = taken {
            self.fail(error);
        }
        came
    }

    /// No more comes.
    fn finish(&mut self) {
        match self.reader.finish() {
            Ok(events) => self.ready.extend(events.into_iter().map(Ok)),
            Err(error) => self.ready.push_back(Err(error)),
        }
        self.over = true;
    }

    fn fail(&mut self, error: BackendError) {
        self.ready.push_back(Err(error));
        self.over = true;
    }
}

/// Puts an event behind those that are ready. Pieces of a text that are ready together are one: whatever is done for each of
/// them from here to the reader is done once. A text that is long already is not made longer.
fn join(ready: &mut VecDeque<Result<Event, BackendError>>, event: Event) {
    let apart = match ready.back_mut() {
        Some(Ok(last)) => append(last, event),
        _ => Some(event),
    };
    ready.extend(apart.map(Ok));
}

/// Lets the text of an event go on with the next one; gives the next one back if it is something else.
fn append(last: &mut Event, next: Event) -> Option<Event> {
    match (last, next) {
        (
            Event::Text { choice, text, completion_tokens, logprobs },
            Event::Text { choice: of, text: more, completion_tokens: newer, logprobs: mut others },
        ) if *choice == of && text.len() + more.len() <= MOST_JOINED => {
            text.push_str(&more);
            *completion_tokens = newer;
            logprobs.append(&mut others);
            None
        }
        (Event::Reasoning { choice, text, completion_tokens }, Event::Reasoning { choice: of, text: more, completion_tokens: newer })
            if *choice == of && text.len() + more.len() <= MOST_JOINED =>
        {
            text.push_str(&more);
            *completion_tokens = newer;
            None
        }
        (_, next) => Some(next),
    }
}

/// How much of an answer is held until it is complete.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    /// # Errors
    /// It is too much.
    pub(super) fn take(&mut self, text: &str) -> Result<(), BackendError> {
        self.0 = self.0.saturating_add(text.len());
        if self.0 > MOST_HELD {
            return Err(BackendError::Protocol(format!("the calls of an answer are longer than {MOST_HELD} bytes")));
        }
        Ok(())
    }
}

/// How long an answer took, as far as it can be seen from here.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    first: Option<Instant>,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), first: None }
    }

    /// Something of the answer came.
    pub(super) fn output(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    pub(super) fn timings(&self) -> Timings {
        let ttft = self.first.map_or_else(|| self.began.elapsed(), |first| first - self.began);
        let decode = self.began.elapsed().saturating_sub(ttft);
        Timings { queued_ms: 0, prefill_ms: millis(ttft), ttft_ms: millis(ttft), decode_ms: millis(decode) }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{BackendError, Bytes, Duration, Event, MOST_JOINED, Reader, Reading, Splitter, Stream, StreamExt, follow, stream};
    use futures::future;
    use std::collections::VecDeque;
    use tokio::time::{sleep, timeout};
    use worker_protocol::{FailCode, Finish, Timings, TokenLogprob, ToolCall, Usage};

    /// Turns over what the data are in words of its own.
    struct Words;

    impl Reader for Words {
        fn take(&mut self, data: &str) -> Result<Vec<Event>, BackendError> {
            match data {
                "ping" => Ok(Vec::new()),
                "wrong" => Err(BackendError::Protocol(data.into())),
                "full" => Ok(vec![Event::Failed { code: FailCode::Overloaded, message: String::new(), usage: Usage::default() }]),
                "end" => self.finish(),
                text => Ok(vec![said(0, text, 1, &[])]),
            }
        }

        fn finish(&mut self) -> Result<Vec<Event>, BackendError> {
            Ok(vec![Event::Done { finish: Finish::Stop, stop: None, usage: Usage::default(), timings: Timings::default() }])
        }
    }

    fn said(choice: u32, text: &str, completion_tokens: u32, logprobs: &[f32]) -> Event {
        let logprobs = logprobs.iter().map(|logprob| TokenLogprob { bytes: Vec::new(), logprob: *logprob, top: Vec::new() });
        Event::Text { choice, text: text.into(), completion_tokens, logprobs: logprobs.collect() }
    }

    fn thought(choice: u32, text: &str, completion_tokens: u32) -> Event {
        Event::Reasoning { choice, text: text.into(), completion_tokens }
    }

    /// The unit of time here.
    const TICK: Duration = Duration::from_millis(50);

    /// What is told of chunks, each of which comes so many ticks after it is asked for. The first event may take ten, each
    /// other one four.
    fn told_of(chunks: Vec<(u32, &'static str)>) -> impl Stream<Item = Result<Event, BackendError>> {
        let chunks = stream::iter(chunks).then(|(after, chunk)| async move {
            sleep(TICK * after).await;
            Ok(Bytes::from_static(chunk.as_bytes()))
        });
        follow(chunks, Box::new(Words), TICK * 10, TICK * 4)
    }

    async fn told(chunks: Vec<(u32, &'static str)>) -> Vec<String> {
        let words = told_of(chunks).map(|event| match event {
            Ok(Event::Text { text, .. }) => text,
            Ok(Event::Done { .. }) => "done".into(),
            Ok(Event::Failed { .. }) => "failed".into(),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        });
        words.collect().await
    }

    #[test]
    fn pieces_that_come_together_are_one_and_everything_else_keeps_its_place() {
        let call = Event::ToolCall { choice: 0, index: 0, call: ToolCall::default(), completion_tokens: 7 };
        let began = Event::Started { prompt_tokens: 9, cached_tokens: 0 };
        let events = [
            began.clone(),
            thought(0, "H", 1),
            thought(0, "m.", 2),
            said(0, "One ", 3, &[-0.5]),
            said(0, "two", 4, &[]),
            said(0, " three", 5, &[-0.25, -0.125]),
            said(1, "Eins", 6, &[]),
            said(0, "", 7, &[]),
            call.clone(),
            said(0, "four", 8, &[]),
            thought(0, "So", 9),
            thought(1, "Also", 10),
        ];
        let mut ready = VecDeque::new();
        for event in events {
            super::join(&mut ready, event);
        }
        let joined: Vec<Event> = ready.into_iter().map(Result::unwrap).collect();
        let expected = [
            began,
            thought(0, "Hm.", 2),
            said(0, "One two three", 5, &[-0.5, -0.25, -0.125]),
            said(1, "Eins", 6, &[]),
            said(0, "", 7, &[]),
            call,
            said(0, "four", 8, &[]),
            thought(0, "So", 9),
            thought(1, "Also", 10),
        ];
        assert_eq!(joined, expected);
    }

    #[test]
    fn pieces_of_a_long_text_stay_apart() {
        let (half, third) = ("a".repeat(MOST_JOINED / 2), "b".repeat(MOST_JOINED / 3));
        let pieces: [fn(u32, &str, u32) -> Event; 2] = [|choice, text, tokens| said(choice, text, tokens, &[]), thought];
        for piece in pieces {
            let mut ready = VecDeque::new();
            for (text, tokens) in [(&half, 1), (&half, 2), (&third, 3), (&third, 4)] {
                super::join(&mut ready, piece(0, text, tokens));
            }
            let joined: Vec<Event> = ready.into_iter().map(Result::unwrap).collect();
            assert_eq!(joined, [piece(0, &half.repeat(2), 2), piece(0, &third.repeat(2), 4)]);
        }
    }

    #[test]
    fn an_answer_without_end_is_not_read_to_its_end() {
        let ready = VecDeque::new();
        let mut reading = Reading { splitter: Splitter::default(), reader: Box::new(Words), ready, room: 7, over: false };
        assert!(reading.take(b"data: abc\n\ndata: defg\n\n") && !reading.over, "as much as there is room for");
        reading.take(b"data: h\n\n");
        assert!(reading.over);
        assert!(matches!(reading.ready.pop_back(), Some(Err(BackendError::Protocol(_)))));
        assert_eq!(reading.ready.pop_front(), Some(Ok(said(0, "abcdefg", 1, &[]))));
        assert!(reading.ready.is_empty());
    }

    #[tokio::test]
    async fn comments_that_are_always_at_hand_put_off_neither_others_nor_the_deadline() {
        let comments = || stream::repeat_with(|| Ok(Bytes::from_static(b": ping\n\n")));
        let patient = follow(comments(), Box::new(Words), Duration::from_secs(20), TICK).collect::<Vec<_>>();
        tokio::select! {
            biased;
            events = patient => panic!("nobody else had a turn: {events:?}"),
            () = tokio::task::yield_now() => {}
        }
        let short = follow(comments(), Box::new(Words), TICK, TICK).collect::<Vec<_>>();
        let events = timeout(TICK * 100, short).await.expect("an end");
        assert_eq!(events, [Err(BackendError::Failing("nothing came for 50ms".into()))]);
    }

    #[tokio::test]
    async fn what_comes_together_is_told_together_up_to_the_end() {
        let chunks = vec![(0, "data: a\n\ndata: b\n\nda"), (0, "ta: c\n\ndata: end\n\ndata: d\n\n"), (0, "data: e\n\n")];
        assert_eq!(told(chunks).await, ["ab", "c", "done"]);
        assert_eq!(told(vec![(0, "data: a\n\ndata: full\n\ndata: b\n\n")]).await, ["a", "failed"]);
        assert_eq!(told(vec![(0, "data: a\n\ndata: b\n")]).await, ["a", "done"], "half an event is none");
    }

    #[tokio::test]
    async fn what_came_before_an_error_is_told_before_it() {
        let chunks = vec![(0, "data: a\n\ndata: b\n\ndata: wrong\n\ndata: c\n\n"), (0, "data: d\n\n")];
        assert_eq!(told(chunks).await, ["ab", "broken protocol: wrong"]);
    }

    #[tokio::test]
    async fn comments_alone_are_no_sign_of_life_but_events_without_text_are() {
        let pings = vec![(6, "data: ping\n\n"), (6, "data: ping\n\n"), (6, "data: a\n\n"), (1, "data: end\n\n")];
        assert_eq!(told(pings).await, ["a", "done"]);
        let mut comments = vec![(0, "data: a\n\n")];
        comments.extend([(1, ": ping\n\n")].repeat(12));
        comments.push((0, "data: b\n\n"));
        assert_eq!(told(comments).await, ["a", "failing: nothing came for 200ms"]);
    }

    #[tokio::test]
    async fn a_slow_reader_does_not_count_against_the_server() {
        let mut events = Box::pin(told_of(vec![(0, "data: a\n\n"), (1, "data: b\n\n"), (1, "data: end\n\n")]));
        let mut count = 0;
        while let Some(event) = events.next().await {
            assert!(event.is_ok(), "{event:?}");
            count += 1;
            sleep(TICK * 8).await;
        }
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_told_after_what_came() {
        let chunks = stream::iter([Ok(Bytes::from_static(b"data: a\n\n")), Err(BackendError::Lost("it broke".into()))]);
        let events = follow(chunks, Box::new(Words), TICK * 10, TICK * 4);
        let events: Vec<_> = events.collect().await;
        assert_eq!(events, [Ok(said(0, "a", 1, &[])), Err(BackendError::Lost("it broke".into()))]);
        let silent = stream::once(future::pending());
        let events: Vec<_> = follow(silent, Box::new(Words), TICK, TICK).collect().await;
        assert_eq!(events, [Err(BackendError::Failing("nothing came for 50ms".into()))]);
    }
}

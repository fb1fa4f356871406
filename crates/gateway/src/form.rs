//! Forms that are read piece by piece, and hold no more in memory than a piece and the head of a field.
//!
//! The parser keeps what comes until a field's head is complete, however much that is, and takes all that is there at
//! once. So pieces are handed to it one by one, and it gets no more of them than a head may need.

use crate::failure::Failure;
use axum::{
    BoxError,
    body::{Body, BodyDataStream, Bytes},
    extract::{
        FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
};
use futures::{Stream, StreamExt};
use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

/// Bytes after which no more is read where the head of a field is not complete.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Fields of a form.
const MOST_FIELDS: usize = 16;
/// Bytes of a field that is no file.
const TEXT_MAX_BYTES: usize = 1024;

/// See the module.
pub struct Form {
    multipart: Multipart,
    /// Whether the head of a field is being read.
    heads: Arc<AtomicBool>,
    fields: usize,
}

impl Form {
    /// The form of a request of `most` bytes, about.
    pub async fn of(request: Request, most: u64) -> Result<Self, Failure> {
        let heads = Arc::new(AtomicBool::new(true));
        let (parts, body) = request.into_parts();
        let pieces = Pieces { body: body.into_data_stream(), heads: heads.clone(), head: 0, left: Some(most), paused: false };
        let request = Request::from_parts(parts, Body::from_stream(pieces));
        let multipart = Multipart::from_request(request, &()).await;
        let multipart =
            multipart.map_err(|_| Failure::malformed("A file comes as multipart/form-data, with the fields purpose and file."))?;
        Ok(Self { multipart, heads, fields: 0 })
    }

    /// The next field. The one before must have been read to its end.
    pub async fn next(&mut self) -> Result<Option<Field<'_>>, Failure> {
        self.heads.store(true, Ordering::Relaxed);
        let field = self.multipart.next_field().await.map_err(|error| broken(&error))?;
        self.heads.store(false, Ordering::Relaxed);
        self.fields += 1;
        if field.is_some() && self.fields > MOST_FIELDS {
            return Err(Failure::malformed(format!("The form may have at most {MOST_FIELDS} fields.")));
        }
        Ok(field)
    }
}

/// The next piece of a field.
pub async fn piece(field: &mut Field<'_>) -> Result<Option<Bytes>, Failure> {
    field.chunk().await.map_err(|error| broken(&error))
}

/// A short field.
pub async fn text(mut field: Field<'_>) -> Result<String, Failure> {
    let mut all = Vec::new();
    while let Some(bytes) = piece(&mut field).await? {
        all.extend_from_slice(&bytes);
        if all.len() > TEXT_MAX_BYTES {
            return Err(Failure::malformed(format!("A field that is no file may have at most {TEXT_MAX_BYTES} bytes.")));
        }
    }
    String::from_utf8(all).map_err(|_| Failure::malformed("A field of the form is not UTF-8."))
}

fn broken(error: &MultipartError) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(next) = cause {
        if let Some(TooMuch(message)) = next.downcast_ref() {
            return Failure::malformed(*message);
        }
        cause = next.source();
    }
    if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
        return Failure::malformed("The request's body could not be read to its end.");
    }
    Failure::malformed(format!("The form cannot be read: {}.", error.body_text()))
}

/// A form with more than it may have.
#[derive(Debug)]
struct TooMuch(&'static str);

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for TooMuch {}

/// The pieces of a body. What is too much is found when more is asked for: a piece that came is handed on.
struct Pieces {
    body: BodyDataStream,
    heads: Arc<AtomicBool>,
    /// Bytes since the head of a field is being read.
    head: usize,
    /// Bytes that may still come; `None` behind the last one.
    left: Option<u64>,
    /// The parser shall look at the piece that it has.
    paused: bool,
}

impl Stream for Pieces {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let in_head = self.heads.load(Ordering::Relaxed);
        if !in_head {
            self.head = 0;
        }
        if std::mem::take(&mut self.paused) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.head > HEAD_MAX_BYTES {
            return Poll::Ready(Some(Err(TooMuch("The head of a field of the form is too long.").into())));
        }
        let Some(left) = self.left else {
            return Poll::Ready(Some(Err(TooMuch("The form is larger than a file may be.").into())));
        };
        let piece = match ready!(self.body.poll_next_unpin(context)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if in_head {
            self.head += piece.len();
        }
        self.left = left.checked_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.paused = true;
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, HEAD_MAX_BYTES, piece, text};
    use crate::failure::Failure;
    use axum::{
        body::{Body, Bytes},
        http::{Request, header},
    };
    use futures::stream;
    use std::convert::Infallible;

    /// Names and sizes of a form's fields, whose bytes come in pieces of this size.
    async fn read(body: &str, size: usize, most: u64) -> Result<Vec<(String, usize)>, Failure> {
        let pieces: Vec<_> = body.as_bytes().chunks(size).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
        let request = Request::post("/").header(header::CONTENT_TYPE, "multipart/form-data; boundary=b");
        let request = request.body(Body::from_stream(stream::iter(pieces))).expect("a request");
        let mut form = Form::of(request, most).await?;
        let mut fields = Vec::new();
        while let Some(mut field) = form.next().await? {
            let name = field.name().unwrap_or_default().to_owned();
            let mut bytes = 0;
            while let Some(piece) = piece(&mut field).await? {
                bytes += piece.len();
            }
            fields.push((name, bytes));
        }
        Ok(fields)
    }

    fn field(name: &str, header: &str, bytes: usize) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n{header}\r\n{}\r\n", "x".repeat(bytes))
    }

    #[tokio::test]
    async fn a_form_is_read_however_it_is_cut() {
        let body = format!("{}{}{}--b--\r\n", field("a", "", 3), field("file", "x-a: b\r\n", 300_000), field("c", "", 0));
        for size in [7, 1_000, 100_000, 1_000_000] {
            let fields = read(&body, size, 1_000_000).await.expect("a form");
            assert_eq!(fields, [("a".to_owned(), 3), ("file".to_owned(), 300_000), ("c".to_owned(), 0)], "{size}");
        }
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_before_it_is_kept() {
        let long = format!("x-a: {}\r\n", "y".repeat(2 * HEAD_MAX_BYTES));
        let many = (0..17).map(|at| field(&at.to_string(), "", 1)).collect::<String>();
        let cases = [
            (field("a", &long, 1), 1_000_000, "head of a field"),
            ("x".repeat(2 * HEAD_MAX_BYTES), 1_000_000, "head of a field"),
            (field("a", "", 50_000), 10_000, "larger than a file"),
            (many, 1_000_000, "at most 16 fields"),
        ];
        for (body, most, expected) in cases {
            let failure = read(&format!("{body}--b--\r\n"), 1_000, most).await.expect_err(expected);
            assert!(failure.body.message.contains(expected), "{}", failure.body.message);
            assert_eq!(failure.status, 400);
        }
    }

    #[tokio::test]
    async fn a_text_is_short() {
        for (bytes, fits) in [(1_024, true), (1_025, false)] {
            let request = Request::post("/").header(header::CONTENT_TYPE, "multipart/form-data; boundary=b");
            let request = request.body(Body::from(format!("{}--b--\r\n", field("a", "", bytes)))).expect("a request");
            let mut form = Form::of(request, 1_000_000).await.expect("a form");
            let field = form.next().await.expect("a field").expect("a field");
            assert_eq!(text(field).await.is_ok(), fits);
        }
    }
}

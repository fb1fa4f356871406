//! HTTP/1.1 on one connection, for the client and for the upstream, with as little work around a message as it allows: heads are
//! written as they are, and bodies are handed on where they were read.
//!
//! With thousands of streams each piece of text costs either side one call of the kernel and little beside it. A client or
//! an upstream that needs more would be measured in the place of the gateway.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Header, Status};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// Bytes that are read at a time at most; more where a long body is expected.
const ROOM: usize = 4 * 1024;
const MOST_ROOM: usize = 256 * 1024;
/// Lines of a head.
const HEADERS: usize = 64;

/// The end of a body in chunks.
pub const END: &[u8] = b"0\r\n\r\n";

/// A message as it is sent.
#[derive(Clone, Debug)]
pub struct Message {
    /// With the empty line at its end.
    pub head: Bytes,
    pub body: Bytes,
}

/// One chunk of a body that comes in chunks.
pub fn chunk(data: &[u8]) -> Bytes {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat().into()
}

/// A connection; see the module.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// What came and was not looked at yet.
    came: BytesMut,
    /// Of the message that is read.
    left: Left,
    /// The other side says that no other message follows.
    last: bool,
}

/// What of a message's body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// So many bytes, of a chunk or of a whole body.
    Bytes {
        count: u64,
        chunk: bool,
    },
    /// The line that tells how long a chunk is.
    Size,
    /// The line's end after a chunk.
    ChunkEnd,
    /// Lines after the last chunk.
    Trailers,
    /// All until the connection ends.
    UntilClosed,
}

/// What matters of a head here.
struct Head {
    /// In bytes.
    length: usize,
    left: Left,
    last: bool,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect(addr).await?)
    }

    /// Speaks over this connection.
    ///
    /// # Errors
    /// It is closed already.
    pub fn over(stream: TcpStream) -> Result<Self> {
        // Without it a message may wait for an acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Self { stream, came: BytesMut::new(), left: Left::Nothing, last: false })
    }

    /// The message before was read to its end, and another one may follow.
    pub fn is_free(&self) -> bool {
        self.left == Left::Nothing && !self.last && self.came.is_empty()
    }

    /// The other side said with its message that no other one follows.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Sends a message, in one call of the kernel where that takes it.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, message: &Message) -> Result<()> {
        let mut bytes = Buf::chain(message.head.clone(), message.body.clone());
        Ok(self.stream.write_all_buf(&mut bytes).await?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads the head of a request; `None` if the other side has closed the connection instead.
    ///
    /// # Errors
    /// It is none, or the connection broke.
    pub async fn request(&mut self) -> Result<Option<Method>> {
        loop {
            if let Some((method, head)) = request_head(&self.came)? {
                self.begin(&head);
                return Ok(Some(method));
            }
            if self.fill().await? == 0 {
                return if self.came.is_empty() { Ok(None) } else { Err("the connection ended within a request's head".into()) };
            }
        }
    }

    /// Reads the head of an answer.
    ///
    /// # Errors
    /// It is none, or the connection ended.
    pub async fn answer(&mut self) -> Result<StatusCode> {
        loop {
            if let Some((status, head)) = answer_head(&self.came)? {
                self.begin(&head);
                // `100 Continue` and the like come before the answer.
                if !status.is_informational() {
                    return Ok(status);
                }
            } else if self.fill().await? == 0 {
                return Err("the connection ended before an answer's head".into());
            }
        }
    }

    /// Hands on what of the body has come; waits for it if nothing has. Whether more may follow.
    ///
    /// # Errors
    /// It is no body, or the connection ended within it.
    pub async fn more(&mut self, mut take: impl FnMut(&[u8])) -> Result<bool> {
        loop {
            let mut some = false;
            let whole = self.hand_on(&mut |bytes: &[u8]| {
                some = true;
                take(bytes);
            })?;
            if whole || some {
                return Ok(!whole);
            }
            if self.fill().await? == 0 {
                if self.left != Left::UntilClosed {
                    return Err("the connection ended within a body".into());
                }
                self.left = Left::Nothing;
            }
        }
    }

    /// Waits until the other side closes the connection, whatever it says until then.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn closed(&mut self) -> Result<()> {
        while self.fill().await? > 0 {
            self.came.clear();
        }
        Ok(())
    }

    fn begin(&mut self, head: &Head) {
        self.came.advance(head.length);
        (self.left, self.last) = (head.left, head.last);
    }

    /// Reads once. How many bytes came; none at the connection's end.
    async fn fill(&mut self) -> Result<usize> {
        let room = match self.left {
            Left::Bytes { count, .. } => usize::try_from(count).unwrap_or(MOST_ROOM).clamp(ROOM, MOST_ROOM),
            _ => ROOM,
        };
        self.came.reserve(room);
        Ok(self.stream.read_buf(&mut self.came).await?)
    }

    /// Hands on what of the body is here. Whether that was the end of it.
    fn hand_on(&mut self, take: &mut impl FnMut(&[u8])) -> Result<bool> {
        loop {
            self.left = match self.left {
                Left::Nothing => return Ok(true),
                Left::Bytes { count, chunk } => {
                    let count = self.part(count, take);
                    if count > 0 {
                        self.left = Left::Bytes { count, chunk };
                        return Ok(false);
                    }
                    if chunk { Left::ChunkEnd } else { Left::Nothing }
                }
                Left::Size => match httparse::parse_chunk_size(&self.came).map_err(|error| error.to_string())? {
                    Status::Partial => return Ok(false),
                    Status::Complete((length, count)) => {
                        self.came.advance(length);
                        if count == 0 { Left::Trailers } else { Left::Bytes { count, chunk: true } }
                    }
                },
                Left::ChunkEnd => match self.line() {
                    None => return Ok(false),
                    Some(_) => Left::Size,
                },
                Left::Trailers => match self.line() {
                    None => return Ok(false),
                    Some(0) => Left::Nothing,
                    Some(_) => Left::Trailers,
                },
                Left::UntilClosed => {
                    self.part(u64::MAX, take);
                    return Ok(false);
                }
            };
        }
    }

    /// Hands on up to so many bytes; how many of them are still to come.
    fn part(&mut self, count: u64, take: &mut impl FnMut(&[u8])) -> u64 {
        let here = usize::try_from(count).unwrap_or(usize::MAX).min(self.came.len());
        if here > 0 {
            take(&self.came[..here]);
            self.came.advance(here);
        }
        count - u64::try_from(here).unwrap_or(count)
    }

    /// Takes a line; how long it was without its end. `None`: it is not here yet.
    fn line(&mut self) -> Option<usize> {
        let end = memchr::memchr(b'\n', &self.came)?;
        let length = self.came[..end].trim_ascii_end().len();
        self.came.advance(end + 1);
        Some(length)
    }
}

fn request_head(came: &[u8]) -> Result<Option<(Method, Head)>> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Status::Complete(length) = request.parse(came)? else { return Ok(None) };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())?;
    let (left, last) = framing(request.headers)?;
    Ok(Some((method, Head { length, left: left.unwrap_or(Left::Nothing), last })))
}

fn answer_head(came: &[u8]) -> Result<Option<(StatusCode, Head)>> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let Status::Complete(length) = answer.parse(came)? else { return Ok(None) };
    let status = StatusCode::from_u16(answer.code.unwrap_or_default())?;
    let (left, last) = framing(answer.headers)?;
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let left = if bodiless { Left::Nothing } else { left.unwrap_or(Left::UntilClosed) };
    Ok(Some((status, Head { length, left, last: last || left == Left::UntilClosed })))
}

/// How a body is delimited, if the head tells, and whether the connection ends after it.
fn framing(headers: &[Header<'_>]) -> Result<(Option<Left>, bool)> {
    let (mut left, mut last) = (None, false);
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            left = Some(Left::Size);
        } else if header.name.eq_ignore_ascii_case("content-length") {
            // Beside chunks it counts nothing.
            let count: u64 = std::str::from_utf8(header.value)?.trim().parse()?;
            left = left.or(Some(Left::Bytes { count, chunk: false }));
        } else if header.name.eq_ignore_ascii_case("connection") {
            last = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok((left, last))
}

#[cfg(test)]
mod tests {
    use super::{END, Left, Wire, chunk};
    use crate::Result;
    use reqwest::{Method, StatusCode};
    use tokio::net::TcpListener;

    /// Both ends of a connection.
    async fn pair() -> (Wire, Wire) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (ours, theirs) = tokio::join!(Wire::connect(listener.local_addr().unwrap()), listener.accept());
        (ours.unwrap(), Wire::over(theirs.unwrap().0).unwrap())
    }

    async fn body(wire: &mut Wire) -> Result<String> {
        let mut body = Vec::new();
        while wire.more(|bytes| body.extend_from_slice(bytes)).await? {}
        Ok(String::from_utf8(body)?)
    }

    #[tokio::test]
    async fn bodies_are_whole_however_they_are_cut() {
        let chunked = [&chunk(b"one ")[..], b"4;name=value\r\ntwo \r\n", &chunk(b"three")[..], END].concat();
        let answers = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\none two three".to_vec(),
            [&b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &chunked].concat(),
        ];
        for size in [1, 2, 5, 1000] {
            let (mut ours, mut theirs) = pair().await;
            for answer in &answers {
                let sent = async {
                    for part in answer.chunks(size) {
                        theirs.write(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let read = async { (ours.answer().await.unwrap(), body(&mut ours).await.unwrap()) };
                let ((), (status, body)) = tokio::join!(sent, read);
                assert_eq!((status, body.as_str()), (StatusCode::OK, "one two three"), "in parts of {size}");
                assert!(ours.is_free());
            }
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_length_ends_with_the_connection() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write(b"HTTP/1.1 500 Internal Server Error\r\n\r\nbroken").await.unwrap();
        drop(theirs);
        assert_eq!(ours.answer().await.unwrap(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body(&mut ours).await.unwrap(), "broken");
        assert!(!ours.is_free());
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_is_an_error() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n5\r\nha").await.unwrap();
        drop(theirs);
        ours.answer().await.unwrap();
        assert!(body(&mut ours).await.is_err());
        assert!(!ours.is_free());
    }

    #[tokio::test]
    async fn requests_follow_each_other_until_the_connection_ends() {
        let (mut ours, mut theirs) = pair().await;
        ours.write(b"GET /v1/models HTTP/1.1\r\nhost: upstream\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        drop(ours);
        assert_eq!(theirs.request().await.unwrap(), Some(Method::GET));
        assert_eq!((theirs.left, body(&mut theirs).await.unwrap().as_str()), (Left::Nothing, ""));
        assert_eq!(theirs.request().await.unwrap(), Some(Method::POST));
        assert_eq!(body(&mut theirs).await.unwrap(), "{}");
        assert_eq!(theirs.request().await.unwrap(), None);
    }
}

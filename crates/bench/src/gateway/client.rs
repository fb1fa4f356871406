//! The load's client: one connection each, kept open.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::timeout;

use super::streamed;
use super::upstream::{PIECE, PIECES};
use super::wire::{Message, Wire};
use crate::Result;

/// Tokens that every answer may have.
const MAX_TOKENS: u32 = 64;
/// How long two answers may take that come at once upstream.
const PROOF: Duration = Duration::from_secs(20);
/// Characters of an unexpected answer that are shown.
const SHOWN: usize = 400;

/// Makes a request. One may have to be sent again.
pub type Make<'a> = &'a dyn Fn() -> Message;

/// Where completions are asked for, and how.
#[derive(Clone, Debug)]
pub struct Route {
    addr: SocketAddr,
    /// What the head of every request begins with.
    start: String,
    authorization: Option<String>,
    model: String,
}

impl Route {
    /// `headers` are added to what every request has.
    ///
    /// # Errors
    /// `path` or a header cannot be sent.
    pub fn new(addr: SocketAddr, path: &str, model: &str, headers: &[(&str, &str)]) -> Result<Self> {
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{path:?} is no path").into());
        }
        let mut start = format!("POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\naccept: */*\r\n");
        let mut authorization = None;
        for (name, value) in headers {
            if value.contains(char::is_control) {
                return Err(format!("{value:?} cannot be sent in the header {name}").into());
            }
            if name.eq_ignore_ascii_case("authorization") {
                authorization = Some((*value).to_owned());
            } else {
                start.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        Ok(Self { addr, start, authorization, model: model.to_owned() })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A completion of this prompt.
    pub fn body(&self, prompt: &str, stream: bool) -> Bytes {
        let mut body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": prompt }],
            "max_tokens": MAX_TOKENS,
        });
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({ "include_usage": true });
        }
        body.to_string().into()
    }

    pub fn request(&self, body: &Bytes) -> Message {
        self.message(self.authorization.as_deref(), body)
    }

    /// The same with another key.
    pub fn request_with_key(&self, body: &Bytes, key: &str) -> Message {
        self.message(Some(&format!("Bearer {key}")), body)
    }

    fn message(&self, authorization: Option<&str>, body: &Bytes) -> Message {
        let authorization = authorization.map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
        let head = format!("{}{authorization}content-length: {}\r\n\r\n", self.start, body.len());
        Message { head: head.into(), body: body.clone() }
    }

    /// An answer comes through, whole and streamed, with all of its text. The upstream must answer at once.
    ///
    /// # Errors
    /// It does not; with the answer's beginning.
    pub async fn prove(&self) -> Result<()> {
        timeout(PROOF, self.both_ways()).await.map_err(|_| format!("no answer within {PROOF:?}"))?
    }

    async fn both_ways(&self) -> Result<()> {
        let mut caller = Caller::new(self.addr);
        let body = self.body("Hello", false);
        let reply = caller.exchange(&|| self.request(&body)).await?;
        let text = String::from_utf8_lossy(&reply.body);
        let came = text.matches(PIECE.trim_end()).count();
        if !reply.status.is_success() || u32::try_from(came)? != PIECES {
            let shown: String = text.chars().take(SHOWN).collect();
            return Err(format!("{came} of {PIECES} pieces of text came in an answer with HTTP status {}: {shown}", reply.status).into());
        }
        let body = self.body("Hello", true);
        let streamed = streamed::read(&mut caller, &|| self.request(&body)).await?;
        if streamed.pieces != PIECES || !streamed.done {
            let done = if streamed.done { "" } else { " and no end" };
            return Err(format!("{} of {PIECES} pieces of text{done} came in a streamed answer", streamed.pieces).into());
        }
        Ok(())
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

/// Somebody with a connection of their own.
#[derive(Debug)]
pub struct Caller {
    addr: SocketAddr,
    wire: Option<Wire>,
}

impl Caller {
    /// Connects with the first request.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, wire: None }
    }

    /// Sends a request and waits for the answer's head. A connection that the other side has closed meanwhile is made anew,
    /// as clients do; that takes its time, which counts.
    ///
    /// # Errors
    /// No connection, or it broke.
    pub async fn send(&mut self, make: Make<'_>) -> Result<StatusCode> {
        // What is cut off within a message leaves no connection behind.
        if let Some(mut wire) = self.wire.take().filter(Wire::is_free)
            && let Ok(status) = ask(&mut wire, &make()).await
        {
            self.wire = Some(wire);
            return Ok(status);
        }
        let mut wire = Wire::connect(self.addr).await?;
        let status = ask(&mut wire, &make()).await?;
        self.wire = Some(wire);
        Ok(status)
    }

    /// Hands on what of the answer's body has come; waits for it if nothing has. Whether more may follow.
    ///
    /// # Errors
    /// Nothing was asked, or the connection broke.
    pub async fn more(&mut self, take: impl FnMut(&[u8])) -> Result<bool> {
        self.wire.as_mut().ok_or("nothing was asked")?.more(take).await
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    /// No connection, or it broke.
    pub async fn exchange(&mut self, make: Make<'_>) -> Result<Reply> {
        let status = self.send(make).await?;
        let mut body = Vec::new();
        while self.more(|bytes| body.extend_from_slice(bytes)).await? {}
        Ok(Reply { status, body })
    }
}

async fn ask(wire: &mut Wire, request: &Message) -> Result<StatusCode> {
    wire.send(request).await?;
    wire.answer().await
}

/// The status that a `GET` answers with.
///
/// # Errors
/// No connection, or it broke.
pub async fn get(addr: SocketAddr, path: &str) -> Result<StatusCode> {
    let make = || {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n");
        Message { head: head.into(), body: Bytes::new() }
    };
    Ok(Caller::new(addr).exchange(&make).await?.status)
}

#[cfg(test)]
mod tests {
    use super::{Caller, Route};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn a_request_has_one_key() {
        let addr = "127.0.0.1:80".parse().unwrap();
        let route = Route::new(addr, "/v1/chat/completions", "bench", &[("Authorization", "Bearer one"), ("x-way", "here")]).unwrap();
        let body = route.body("Hello", false);
        for (request, key) in [(route.request(&body), "one"), (route.request_with_key(&body, "two"), "two")] {
            let head = String::from_utf8(request.head.to_vec()).unwrap();
            assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:80\r\n"), "{head}");
            assert!(head.ends_with(&format!("\r\nx-way: here\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n", body.len())));
        }
        assert!(Route::new(addr, "/", "bench", &[("x-way", "two\r\nlines")]).is_err());
        assert!(Route::new(addr, "/two words", "bench", &[]).is_err());
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        };
        let ask = async {
            let (route, mut caller) = (Route::new(addr, "/", "bench", &[]).unwrap(), Caller::new(addr));
            let body = route.body("Hello", false);
            for _ in 0..2 {
                assert!(caller.exchange(&|| route.request(&body)).await.unwrap().status.is_success());
            }
        };
        tokio::join!(serve, ask);
    }
}

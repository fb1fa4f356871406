//! The load's client: one connection each, kept open, and as little work around a request as HTTP allows.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::streamed;
use super::upstream::{PIECE, PIECES};
use crate::Result;

/// Tokens that every answer may have.
const MAX_TOKENS: u32 = 64;
/// How long two answers may take that come at once upstream.
const PROOF: Duration = Duration::from_secs(20);
/// Characters of an unexpected answer that are shown.
const SHOWN: usize = 400;

/// Makes a request: a body may be sent once only, a request may have to be sent again.
pub type Make<'a> = &'a dyn Fn() -> Request<Full<Bytes>>;

/// Where completions are asked for, and how.
#[derive(Clone, Debug)]
pub struct Route {
    addr: SocketAddr,
    uri: Uri,
    headers: HeaderMap,
    model: String,
}

impl Route {
    /// `headers` are added to what every request has.
    ///
    /// # Errors
    /// `path` or a header cannot be sent.
    pub fn new(addr: SocketAddr, path: &str, model: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let mut all = HeaderMap::new();
        all.insert(HOST, HeaderValue::from_str(&addr.to_string())?);
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        all.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in headers {
            all.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        Ok(Self { addr, uri: path.parse()?, headers: all, model: model.to_owned() })
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

    pub fn request(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The same with another key.
    pub fn request_with_key(&self, body: &Bytes, key: &str) -> Request<Full<Bytes>> {
        let mut request = self.request(body);
        // Keys are letters and digits.
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {key}")) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
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
    pub body: Bytes,
}

/// Somebody with a connection of their own.
#[derive(Debug)]
pub struct Caller {
    addr: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    /// Connects with the first request.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, sender: None }
    }

    /// Sends a request and waits for the answer's head. A connection that the other side has closed meanwhile is made anew,
    /// as clients do; that takes its time, which counts.
    ///
    /// # Errors
    /// No connection, or it broke.
    pub async fn send(&mut self, make: Make<'_>) -> Result<Response<Incoming>> {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(make()).await
        {
            return Ok(response);
        }
        let sender = self.sender.insert(connect(self.addr).await?);
        sender.ready().await?;
        Ok(sender.send_request(make()).await?)
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    /// No connection, or it broke.
    pub async fn exchange(&mut self, make: Make<'_>) -> Result<Reply> {
        let response = self.send(make).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Reply { status, body })
    }
}

async fn connect(addr: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its sender; who sends hears of its errors.
    TaskTracker::new().spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// The status that a `GET` answers with.
///
/// # Errors
/// No connection, or it broke.
pub async fn get(addr: SocketAddr, path: &str) -> Result<StatusCode> {
    let uri: Uri = path.parse()?;
    let host = HeaderValue::from_str(&addr.to_string())?;
    let make = || {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(HOST, host.clone());
        request
    };
    Ok(Caller::new(addr).exchange(&make).await?.status)
}

//! The server behind every gateway: it speaks OpenAI's API, answers from canned bytes and does what a scenario says.
//!
//! It runs in this process, on the one thread that the clients use too: nothing but the gateway's own core is shared
//! with the gateway, and no two threads of ours take turns on a core.

mod answers;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::Result;
use answers::{BROKEN, Chunks, FULL, INCLUDE_USAGE, MODELS, STREAM, says_true};
pub use answers::{MODEL, PIECE, PIECES};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
/// A failed `accept` (too many open files, for example) is tried again after so long.
const AGAIN: Duration = Duration::from_millis(10);

/// What it does with the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// The whole answer at once, streamed or not.
    AtOnce,
    /// Streams get a piece of text at once and another one after each gap.
    Paced { pieces: u32, gap: Duration },
    /// Streams get one piece of text, and then nothing until the connection is closed.
    Silent,
    /// In turns: an answer, HTTP status 500, an answer, HTTP status 429.
    Failing,
}

type Piece = std::result::Result<Frame<Bytes>, Infallible>;
type AnswerBody = Either<Full<Bytes>, StreamBody<BoxStream<'static, Piece>>>;

/// See the module. Dropping it ends its server.
pub struct Upstream {
    addr: SocketAddr,
    playing: Arc<Mutex<Arc<Play>>>,
    _stop: DropGuard,
}

/// A script that is played, with all that it says.
struct Play {
    script: Script,
    whole: Bytes,
    plain: Chunks,
    counted: Chunks,
    /// Completions asked for since it began.
    asked: AtomicU64,
}

impl Upstream {
    /// One that answers at once, on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let playing = Arc::new(Mutex::new(Arc::new(Play::new(Script::AtOnce))));
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(accept(listener, playing.clone())));
        Ok(Self { addr, playing, _stop: stop.drop_guard() })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a gateway is told of it, up to and including the version.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// What it does from now on. Begins to count anew.
    pub fn play(&self, script: Script) {
        *self.playing.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Play::new(script));
    }

    /// Completions asked for since the script began.
    pub fn asked(&self) -> u64 {
        current(&self.playing).asked.load(Ordering::Relaxed)
    }
}

fn current(playing: &Mutex<Arc<Play>>) -> Arc<Play> {
    playing.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn accept(listener: TcpListener, playing: Arc<Mutex<Arc<Play>>>) {
    let connections = TaskTracker::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        // Without it an answer may wait for an acknowledgement; a socket that refuses is closed already.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let playing = playing.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, playing.clone()));
            // A gateway may close a connection whenever it likes.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(request: Request<Incoming>, playing: Arc<Mutex<Arc<Play>>>) -> std::result::Result<Response<AnswerBody>, hyper::Error> {
    if request.method() == Method::GET {
        return Ok(respond(StatusCode::OK, JSON, whole(Bytes::from_static(MODELS.as_bytes()))));
    }
    let body = request.into_body().collect().await?.to_bytes();
    Ok(current(&playing).answer(&body))
}

impl Play {
    fn new(script: Script) -> Self {
        let pieces = if let Script::Paced { pieces, .. } = script { pieces } else { PIECES };
        Self {
            script,
            whole: answers::whole(pieces),
            plain: Chunks::new(pieces, false),
            counted: Chunks::new(pieces, true),
            asked: AtomicU64::new(0),
        }
    }

    fn answer(&self, body: &[u8]) -> Response<AnswerBody> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let chunks = if says_true(body, INCLUDE_USAGE) { &self.counted } else { &self.plain };
        match (self.script, number % 4) {
            (Script::Failing, 1) => respond(StatusCode::INTERNAL_SERVER_ERROR, JSON, whole(Bytes::from_static(BROKEN.as_bytes()))),
            (Script::Failing, 3) => respond(StatusCode::TOO_MANY_REQUESTS, JSON, whole(Bytes::from_static(FULL.as_bytes()))),
            _ if !says_true(body, STREAM) => respond(StatusCode::OK, JSON, whole(self.whole.clone())),
            (Script::Paced { pieces, gap }, _) => respond(StatusCode::OK, EVENTS, in_pieces(paced(chunks.clone(), pieces, gap))),
            (Script::Silent, _) => {
                let first = stream::iter([Ok(Frame::data(chunks.first.clone()))]);
                respond(StatusCode::OK, EVENTS, in_pieces(first.chain(stream::pending())))
            }
            _ => respond(StatusCode::OK, EVENTS, in_pieces(stream::iter([Ok(Frame::data(chunks.at_once.clone()))]))),
        }
    }
}

/// The first piece at once, the others each a gap after the one before, however long sending took.
fn paced(chunks: Chunks, pieces: u32, gap: Duration) -> impl Stream<Item = Piece> + Send {
    stream::unfold((tokio::time::interval(gap), 0), move |(mut ticks, sent)| {
        let chunks = chunks.clone();
        async move {
            if sent < pieces {
                ticks.tick().await;
            }
            let bytes = match sent {
                0 => chunks.first,
                _ if sent < pieces => chunks.piece,
                _ if sent == pieces => chunks.last,
                _ => return None,
            };
            Some((Ok(Frame::data(bytes)), (ticks, sent + 1)))
        }
    })
}

fn whole(bytes: Bytes) -> AnswerBody {
    Either::Left(Full::new(bytes))
}

fn in_pieces(pieces: impl Stream<Item = Piece> + Send + 'static) -> AnswerBody {
    Either::Right(StreamBody::new(pieces.boxed()))
}

fn respond(status: StatusCode, kind: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::{MODEL, Script, Upstream};
    use crate::gateway::client::{Caller, Route};
    use crate::gateway::streamed;
    use std::time::Duration;

    fn route(upstream: &Upstream) -> Route {
        Route::new(upstream.addr(), "/v1/chat/completions", MODEL, &[]).unwrap()
    }

    #[tokio::test]
    async fn it_answers_whole_and_in_pieces() {
        let upstream = Upstream::start().await.unwrap();
        let route = route(&upstream);
        route.prove().await.unwrap();
        assert_eq!(upstream.asked(), 2);
        upstream.play(Script::Paced { pieces: 5, gap: Duration::from_millis(2) });
        let body = route.body("Hello", true);
        let streamed = streamed::read(&mut Caller::new(upstream.addr()), &|| route.request(&body)).await.unwrap();
        assert_eq!((streamed.pieces, streamed.gaps.len(), streamed.done), (5, 4, true));
        assert!(streamed.took >= Duration::from_millis(8));
        assert_eq!(upstream.asked(), 1);
    }

    #[tokio::test]
    async fn it_fails_in_turns() {
        let upstream = Upstream::start().await.unwrap();
        upstream.play(Script::Failing);
        let (route, mut caller) = (route(&upstream), Caller::new(upstream.addr()));
        let body = route.body("Hello", false);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(caller.exchange(&|| route.request(&body)).await.unwrap().status.as_u16());
        }
        assert_eq!(statuses, [200, 500, 200, 429]);
    }
}

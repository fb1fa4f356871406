//! The server behind every gateway: it speaks OpenAI's API, answers from canned bytes and does what a scenario says.
//!
//! It runs in this process, on the one thread that the clients use too: nothing but the gateway's own core is shared
//! with the gateway, and no two threads of ours take turns on a core.

mod answers;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::wire::{END, Message, Wire, chunk};
use crate::Result;
use answers::{BROKEN, Chunks, FULL, INCLUDE_USAGE, MODELS, STREAM, says_true};
pub use answers::{MODEL, PIECE, PIECES};

/// The head of every streamed answer.
const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
/// Connections that may wait until they are accepted: gateways open thousands at once, and one that does not fit is tried
/// again by the kernel after one, three and seven seconds, which would be the gateway's time.
const WAITING: u32 = 4096;
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

/// See the module. Dropping it ends its server.
pub struct Upstream {
    addr: SocketAddr,
    playing: Arc<Mutex<Arc<Play>>>,
    _stop: DropGuard,
}

/// A script that is played, with all that it says, as it is sent.
struct Play {
    script: Script,
    whole: Message,
    broken: Message,
    full: Message,
    models: Message,
    plain: Streamed,
    counted: Streamed,
    /// Completions asked for since it began.
    asked: AtomicU64,
}

/// A streamed answer in its parts; see [`Chunks`].
struct Streamed {
    /// With the head.
    first: Bytes,
    piece: Bytes,
    /// With the body's end.
    last: Bytes,
    /// With both.
    at_once: Bytes,
}

impl Upstream {
    /// One that answers at once, on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(WAITING)?;
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
        let playing = playing.clone();
        // A gateway may close a connection whenever it likes.
        connections.spawn(async move { drop(serve(stream, &playing).await) });
    }
}

/// Answers one request after the other until the connection is closed.
async fn serve(stream: TcpStream, playing: &Mutex<Arc<Play>>) -> Result<()> {
    let mut wire = Wire::over(stream)?;
    let mut body = Vec::new();
    while let Some(method) = wire.request().await? {
        body.clear();
        while wire.more(|bytes| body.extend_from_slice(bytes)).await? {}
        let play = current(playing);
        if method == Method::GET {
            wire.send(&play.models).await?;
        } else {
            play.answer(&mut wire, &body).await?;
        }
        if wire.is_last() {
            break;
        }
    }
    Ok(())
}

impl Play {
    fn new(script: Script) -> Self {
        let pieces = if let Script::Paced { pieces, .. } = script { pieces } else { PIECES };
        let text = |status, text: &'static str| answer(status, Bytes::from_static(text.as_bytes()));
        Self {
            script,
            whole: answer(StatusCode::OK, answers::whole(pieces)),
            broken: text(StatusCode::INTERNAL_SERVER_ERROR, BROKEN),
            full: text(StatusCode::TOO_MANY_REQUESTS, FULL),
            models: text(StatusCode::OK, MODELS),
            plain: Streamed::of(&Chunks::new(pieces, false)),
            counted: Streamed::of(&Chunks::new(pieces, true)),
            asked: AtomicU64::new(0),
        }
    }

    async fn answer(&self, wire: &mut Wire, body: &[u8]) -> Result<()> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let streamed = if says_true(body, INCLUDE_USAGE) { &self.counted } else { &self.plain };
        match (self.script, number % 4) {
            (Script::Failing, 1) => wire.send(&self.broken).await,
            (Script::Failing, 3) => wire.send(&self.full).await,
            _ if !says_true(body, STREAM) => wire.send(&self.whole).await,
            (Script::Paced { pieces, gap }, _) => streamed.pace(wire, pieces, gap).await,
            (Script::Silent, _) => {
                wire.write(&streamed.first).await?;
                wire.closed().await
            }
            _ => wire.write(&streamed.at_once).await,
        }
    }
}

impl Streamed {
    fn of(chunks: &Chunks) -> Self {
        Self {
            first: [EVENTS, &chunk(&chunks.first)[..]].concat().into(),
            piece: chunk(&chunks.piece),
            last: [&chunk(&chunks.last)[..], END].concat().into(),
            at_once: [EVENTS, &chunk(&chunks.at_once)[..], END].concat().into(),
        }
    }

    /// The first piece at once, the others each a gap after the one before, however long sending took.
    async fn pace(&self, wire: &mut Wire, pieces: u32, gap: Duration) -> Result<()> {
        let mut ticks = interval(gap);
        for number in 0..pieces {
            ticks.tick().await;
            let piece = if number == 0 { &self.first } else { &self.piece };
            wire.write(piece).await?;
        }
        wire.write(&self.last).await
    }
}

/// JSON in one piece.
fn answer(status: StatusCode, body: Bytes) -> Message {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    Message { head: head.into(), body }
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

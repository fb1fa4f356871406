//! A server that judges whether texts are injections, over a real socket, as a test says.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use domain::DataClass;
use inference::guard::{ClassifierConfig, WhenAway};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Texts with this word are injections to it, and no heuristic knows why.
pub const MAGIC_WORD: &str = "Sesame";

/// What it does with the next texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Gives 0.9 to what has the [`MAGIC_WORD`], and 0.1 to everything else.
    Judges,
    /// Answers with this status.
    Fails(u16),
    /// Gives a score that is none.
    Babbles,
    /// Never answers.
    Hangs,
    /// Sends whoever asks to another address.
    SendsAway(String),
}

/// See the module. Dropping it ends its server.
pub struct FakeClassifier {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    _stop: DropGuard,
}

struct Inner {
    manner: Manner,
    asked: Vec<String>,
}

impl FakeClassifier {
    /// One that judges.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let inner = Arc::new(Mutex::new(Inner { manner: Manner::Judges, asked: Vec::new() }));
        let routes = Router::new().route("/classify", post(classify)).with_state(inner.clone());
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(axum::serve(listener, routes).into_future()));
        Self { addr, inner, _stop: stop.drop_guard() }
    }

    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/classify", self.addr)
    }

    /// How a funnel is told of it, with more patience than a busy machine needs.
    #[must_use]
    pub fn config(&self, when_away: WhenAway) -> ClassifierConfig {
        let highest_class = DataClass::Internal;
        ClassifierConfig { url: self.url(), patience: Duration::from_secs(30), threshold: 0.5, highest_class, when_away }
    }

    /// What it does from now on.
    pub fn set(&self, manner: Manner) {
        self.inner().manner = manner;
    }

    /// The texts that it was asked about, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.inner().asked.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn classify(State(inner): State<Arc<Mutex<Inner>>>, Json(question): Json<Value>) -> Response {
    let text = question["text"].as_str().unwrap_or_default().to_owned();
    let magic = text.contains(MAGIC_WORD);
    let manner = {
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.asked.push(text);
        inner.manner.clone()
    };
    match manner {
        Manner::Judges => Json(json!({ "score": if magic { 0.9 } else { 0.1 }, "label": "whatever" })).into_response(),
        Manner::Fails(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
        Manner::Babbles => Json(json!({ "score": 7 })).into_response(),
        Manner::Hangs => std::future::pending().await,
        Manner::SendsAway(url) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response(),
    }
}

//! The real router in process, over a real database and a scripted worker.

use app::edge::CookiePolicy;
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use contract::{
    account::Role,
    chat::StartedTurn,
    ids::{TenantId, UserId},
};
use domain::{Clock, SystemClock, secret::Secret};
use http_body_util::BodyExt;
use identity::{Identity, IdentityConfig, NewPerson};
use inference::{Catalogue, Inference};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use server::http::{AppState, assets::Site, csrf::PublicHost, metrics::Metrics, router};
use services::Services;
use std::sync::Arc;
use telemetry::Tracer;
use testkit::{
    FakeWorker, TestDb,
    fake_worker::{fake_model, quick_pool},
};
use tower::ServiceExt;

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// The product without the browser.
pub struct TestApp {
    pub db: TestDb,
    pub worker: FakeWorker,
    pub state: AppState,
    router: Router,
}

/// Somebody with an account; signed in after [`TestApp::person`].
#[derive(Clone, Debug)]
pub struct Person {
    pub user: UserId,
    pub email: String,
    /// The session cookie as a browser would send it.
    pub cookie: String,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With changes to the state before the router is built.
    pub async fn with(change: impl FnOnce(&mut AppState)) -> Self {
        let db = TestDb::new().await;
        let worker = FakeWorker::start().await;
        let pool = quick_pool();
        pool.add("fake worker", worker.backend());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let catalogue = Catalogue::new(vec![fake_model()]).expect("a catalogue");
        let identity = Identity::new(db.db.clone(), clock.clone(), IdentityConfig::default());
        let inference = Inference::new(db.db.clone(), catalogue, pool, clock.clone());
        let services = Services::new(db.db.clone(), inference.clone(), identity.clone(), clock);
        let mut state = AppState {
            db: db.db.clone(),
            identity,
            inference,
            services,
            metrics: Arc::new(Metrics::default()),
            tracer: Tracer::default(),
            cookies: CookiePolicy { secure: false },
            public_host: PublicHost::default(),
            trust_proxy: false,
            awake: None,
        };
        change(&mut state);
        let router = router(&Site::without_files().expect("options"), &state).expect("a router");
        Self { db, worker, state, router }
    }

    pub async fn tenant(&self, slug: &str) -> TenantId {
        self.state.identity.create_tenant("test", slug, &format!("Tenant {slug}")).await.expect("a tenant")
    }

    /// Creates somebody and signs them in over HTTP.
    pub async fn person(&self, tenant: TenantId, name: &str, roles: &[Role]) -> Person {
        let email = format!("{name}@example.org");
        let account = NewPerson { tenant, email: email.clone(), name: name.into(), roles: roles.to_vec(), password: Secret::new(PASSWORD) };
        let user = self.state.identity.create_user("test", account).await.expect("a user");
        let cookie = self.sign_in(&email).await;
        Person { user, email, cookie }
    }

    /// Signs in and returns the cookie.
    pub async fn sign_in(&self, email: &str) -> String {
        let answer = self.call(None, "sign_in", &json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let cookie = answer.headers[header::SET_COOKIE].to_str().expect("text");
        cookie.split(';').next().unwrap_or_default().to_owned()
    }

    pub async fn get(&self, who: Option<&Person>, path: &str) -> Answer {
        self.send(who, Request::get(path).header(header::ACCEPT, "text/html,*/*").body(Body::empty()).expect("a request")).await
    }

    /// Calls a server function as our own pages do.
    pub async fn call(&self, who: Option<&Person>, endpoint: &str, input: &Value) -> Answer {
        let request = Request::post(format!("/ui/{endpoint}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(input.to_string()))
            .expect("a request");
        self.send(who, request).await
    }

    /// Any request, with the person's cookie.
    pub async fn send(&self, who: Option<&Person>, mut request: Request<Body>) -> Answer {
        if let Some(person) = who {
            request.headers_mut().insert(header::COOKIE, person.cookie.parse().expect("a header"));
        }
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// The response's head, without waiting for its body.
    pub async fn respond(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.expect("infallible")
    }

    /// Sends a request and gives the response's head without waiting for its body.
    pub async fn open(&self, who: &Person, path: &str) -> axum::response::Response {
        let request =
            Request::builder().method(Method::GET).uri(path).header(header::COOKIE, &who.cookie).body(Body::empty()).expect("a request");
        self.respond(request).await
    }

    /// Asks in a new chat and waits for the end of the answer.
    pub async fn ask(&self, who: &Person, question: &str) -> StartedTurn {
        let started: StartedTurn = self.start_turn(who, question).await;
        let events = self.get(Some(who), &format!("/ui/turns/{}/events", started.turn)).await;
        assert!(events.text().contains(r#""type":"end""#), "{}", events.text());
        started
    }

    /// Asks in a new chat, with an attachment, and does not wait.
    pub async fn start_turn(&self, who: &Person, question: &str) -> StartedTurn {
        let turn = json!({ "content": question, "attachments": [{ "name": "notes.txt", "content": "remember" }] });
        let answer = self.call(Some(who), "start_turn", &json!({ "turn": turn })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The events of a finished event stream: number and JSON.
pub fn events(text: &str) -> Vec<(i32, Value)> {
    text.split("\n\n")
        .filter_map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            Some((field("id:")?.parse().ok()?, serde_json::from_str(field("data:")?).ok()?))
        })
        .collect()
}

/// The answer's text as the events build it: each `text` says where it belongs.
pub fn replay(events: &[(i32, Value)]) -> String {
    let mut bytes: Vec<u8> = Vec::new();
    for (_, event) in events.iter().filter(|(_, event)| event["type"] == "text") {
        let at = usize::try_from(event["at"].as_u64().expect("at")).expect("small");
        bytes.truncate(at);
        assert_eq!(bytes.len(), at, "a gap in the text");
        bytes.extend_from_slice(event["text"].as_str().expect("text").as_bytes());
    }
    String::from_utf8(bytes).expect("whole characters")
}

//! How long a prompt is, asked before anything is computed.

use crate::setup::{eventually, request, setup};
use async_trait::async_trait;
use domain::{Error, SystemClock};
use inference::{
    Catalogue, ChatMessage, ChatRole, Inference, Options, Request, Tool, Work,
    meter::Ticket,
    pool::{Backend, BackendError, EventStream},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use testkit::{
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    ledger::ledger,
};
use worker_protocol::{Counted, FailCode, Generate, Status};

#[tokio::test]
async fn a_prompt_is_counted_by_a_worker_and_costs_nothing() {
    let s = setup().await;
    let tool = Tool { name: "weather".into(), description: None, parameters: serde_json::json!({ "type": "object" }) };
    let asked = Request { options: Options { tools: vec![tool], ..Options::default() }, ..request() };
    assert_eq!(s.inference.count_tokens(&s.actor, request()).await.expect("a count"), 4);
    assert_eq!(s.inference.count_tokens(&s.actor, asked).await.expect("a count"), 5);
    assert!(ledger(&s.db).await.is_empty() && s.worker.requests().is_empty());
}

#[tokio::test]
async fn what_would_not_be_completed_is_not_counted() {
    let s = setup().await;
    let unknown = s.inference.count_tokens(&s.actor, Request { model: Some("no-such".into()), ..request() }).await;
    assert!(matches!(unknown, Err(Error::NotFound { what: "model" })), "{unknown:?}");
    let empty = s.inference.count_tokens(&s.actor, Request { messages: Vec::new(), ..request() }).await;
    assert!(matches!(empty, Err(Error::Invalid { field: Some("messages"), .. })), "{empty:?}");
}

#[tokio::test]
async fn without_anybody_to_ask_it_is_unavailable() {
    let s = setup().await;
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let alone = Inference::new(s.db.db.clone(), catalogue, quick_pool(), Arc::new(SystemClock));
    let refused = alone.count_tokens(&s.actor, request()).await;
    assert!(matches!(refused, Err(Error::Unavailable { what: "model", retry_after: Some(_) })), "{refused:?}");
}

#[tokio::test]
async fn of_an_upstream_there_is_an_estimate() {
    let s = setup().await;
    let upstream = FakeUpstream::start().await;
    let pool = quick_pool();
    pool.add_upstream(upstream.config("vllm", FAKE_MODEL)).expect("a client");
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool, Arc::new(SystemClock));
    eventually("it is ready", || async { inference.ready().is_ok() }).await;
    let messages = vec![ChatMessage::new(ChatRole::User, "x".repeat(400))];
    assert_eq!(inference.count_tokens(&s.actor, Request { messages, ..request() }).await.expect("a count"), 100);
    assert!(upstream.requests().is_empty());
}

/// A worker that is asked for a count and does not tell it.
#[derive(Debug)]
struct Mute {
    worker: Arc<dyn Backend>,
    says: Result<Counted, BackendError>,
    asked: AtomicUsize,
}

#[async_trait]
impl Backend for Mute {
    async fn status(&self) -> Result<Status, BackendError> {
        self.worker.status().await
    }

    async fn start(&self, ticket: &Ticket, work: &Work) -> Result<EventStream, BackendError> {
        self.worker.start(ticket, work).await
    }

    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError> {
        assert!(!prompt.tenant.is_empty() && !prompt.partition.is_empty(), "whose prompt it is");
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.says.clone()
    }
}

#[tokio::test]
async fn another_member_counts_where_one_does_not() {
    let s = setup().await;
    let full = || Ok(Counted::Refused { code: FailCode::Overloaded, message: "full".into() });
    let silent: [Result<Counted, BackendError>; 4] = [
        full(),
        Err(BackendError::Lost("gone".into())),
        Err(BackendError::Failing("not now".into())),
        Err(BackendError::Unfit("tools: none here".into())),
    ];
    for says in silent {
        let mute = Arc::new(Mute { worker: s.worker.backend(), says: says.clone(), asked: AtomicUsize::new(0) });
        let pool = quick_pool();
        pool.add("mute", mute.clone());
        let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
        let inference = Inference::new(s.db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
        eventually("it is ready", || async { inference.ready().is_ok() }).await;
        let alone = inference.count_tokens(&s.actor, request()).await;
        match says {
            Err(BackendError::Unfit(_)) => assert!(matches!(alone, Err(Error::Invalid { code: "model_refused", .. })), "{alone:?}"),
            _ => assert!(matches!(alone, Err(Error::Unavailable { what: "model", .. })), "{alone:?}"),
        }
        pool.add("other", s.worker.backend());
        eventually("both are ready", || async { pool.describe().matches("ready with").count() == 2 }).await;
        for _ in 0..32 {
            let counted = inference.count_tokens(&s.actor, request()).await;
            assert_eq!(counted.expect("If you are here because this failed: a member that cannot count is the end of it."), 4);
        }
        assert!(mute.asked.load(Ordering::Relaxed) > 1, "it was never its turn");
    }
}

//! A collector of traces: takes OTLP over HTTP as protobuf, and keeps what came.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use telemetry::{Settings, Tracer};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// See the module. Dropping it ends its server.
pub struct Collector {
    addr: SocketAddr,
    spans: Arc<Mutex<Vec<Collected>>>,
    _stop: DropGuard,
}

/// One span, and which service sent it.
#[derive(Clone, Debug)]
pub struct Collected {
    pub service: String,
    span: Span,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let routes = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, routes).into_future();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { addr, spans, _stop: stop.drop_guard() }
    }

    /// Where spans are sent to.
    pub fn target(&self) -> String {
        format!("http://{}/v1/traces", self.addr)
    }

    /// A tracer that sends here.
    pub fn tracer(&self) -> Tracer {
        self.tracer_that(false)
    }

    /// The same; `accept`: callers decide whether their traces are recorded.
    pub fn tracer_that(&self, accept: bool) -> Tracer {
        let settings = Settings { target: self.target(), service: Some("kontor"), ratio: None, accept, upstreams: false };
        Tracer::export(&settings).expect("an exporter")
    }

    /// What came of one trace.
    pub fn trace(&self, id: &str) -> Vec<Collected> {
        let spans = self.spans.lock().expect("nobody panicked");
        spans.iter().filter(|collected| hex(&collected.span.trace_id) == id).cloned().collect()
    }

    /// How many came at all.
    pub fn count(&self) -> usize {
        self.spans.lock().expect("nobody panicked").len()
    }
}

impl Collected {
    pub fn name(&self) -> &str {
        &self.span.name
    }

    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// As the protocol numbers them: 1 internal, 2 server, 3 client.
    pub fn kind(&self) -> i32 {
        self.span.kind
    }

    pub fn state(&self) -> &str {
        &self.span.trace_state
    }

    /// It is marked as failed.
    pub fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }

    /// An attribute as text; lists separated by commas; empty if there is none.
    pub fn attribute(&self, key: &str) -> String {
        attribute(&self.span.attributes, key)
    }
}

/// The only one of this name.
pub fn only<'a>(spans: &'a [Collected], name: &str) -> &'a Collected {
    let named: Vec<&Collected> = spans.iter().filter(|collected| collected.name() == name).collect();
    assert_eq!(named.len(), 1, "{name} among {:?}", spans.iter().map(Collected::name).collect::<Vec<_>>());
    named[0]
}

async fn take(State(spans): State<Arc<Mutex<Vec<Collected>>>>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("an export of traces");
    let mut spans = spans.lock().expect("nobody panicked");
    for of_service in request.resource_spans {
        let attributes = of_service.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attribute(&attributes, "service.name");
        let all = of_service.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        spans.extend(all.map(|span| Collected { service: service.clone(), span }));
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    found.and_then(|attribute| attribute.value.as_ref()).map(text).unwrap_or_default()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(text).collect::<Vec<_>>().join(","),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

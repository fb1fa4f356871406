//! Figures for Prometheus, on their own port: never together with the interface.

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use inference::{Pool, pool::WorkerLoad};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{sync::Arc, time::Duration};

type Labels = Vec<(&'static str, String)>;

/// Bounds of the duration histogram, in seconds: pages and calls take milliseconds, event streams minutes.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// The process' figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram>,
    resident: Gauge,
    ready: Family<Labels, Gauge>,
    busy: Family<Labels, Gauge>,
    queued: Family<Labels, Gauge>,
    slots: Family<Labels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kontor");
        let requests = Family::<Labels, Counter>::default();
        let durations = Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let resident = Gauge::default();
        let [ready, busy, queued, slots] = std::array::from_fn(|_| Family::<Labels, Gauge>::default());
        registry.register("http_requests", "Requests answered, by route, method and status", requests.clone());
        registry.register_with_unit("http_request_duration", "Time to the response's head, by route", Unit::Seconds, durations.clone());
        registry.register_with_unit("process_resident_memory", "Resident memory of this process", Unit::Bytes, resident.clone());
        registry.register("worker_ready", "1 if the worker takes requests", ready.clone());
        registry.register("worker_busy", "Conversations being decoded", busy.clone());
        registry.register("worker_queued", "Requests waiting for a slot", queued.clone());
        registry.register("worker_slots", "Conversations that the worker decodes at the same time", slots.clone());
        Self { registry, requests, durations, resident, ready, busy, queued, slots }
    }
}

impl Metrics {
    /// Counts one answered request; `route` is the route's pattern, never the path.
    pub fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let labels = vec![("route", route.to_owned()), ("method", method.to_string()), ("status", status.as_u16().to_string())];
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&vec![("route", route.to_owned())]).observe(took.as_secs_f64());
    }

    /// The text for Prometheus, with the workers' figures of this moment.
    ///
    /// # Errors
    /// The text could not be written.
    pub fn render(&self, workers: &[WorkerLoad]) -> Result<String, std::fmt::Error> {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        for worker in workers {
            let labels = vec![("worker", worker.name.clone()), ("model", worker.model.clone())];
            self.ready.get_or_create(&labels).set(i64::from(worker.ready));
            self.busy.get_or_create(&labels).set(i64::from(worker.busy));
            self.queued.get_or_create(&labels).set(i64::from(worker.queued));
            self.slots.get_or_create(&labels).set(i64::from(worker.slots));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Resident memory in bytes, from `/proc`; `None` on systems without it.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok().map(|kib| kib * 1024)
}

/// The router of the metrics port: `GET /metrics`.
pub fn router(metrics: Arc<Metrics>, pool: Pool) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state((metrics, pool))
}

async fn scrape(State((metrics, pool)): State<(Arc<Metrics>, Pool)>) -> Response {
    match metrics.render(&pool.load().await) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

//! Figures for Prometheus, on their own port: never together with the interface.

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use inference::{
    CacheFigures, Inference,
    pool::{Device, LoadedModel, ModelState, Reconciled, Totals, WorkerLoad},
};
use memory_stats::memory_stats;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use store::{Connections, Db};

type Labels = Vec<(&'static str, String)>;

/// Bounds of the duration histogram, in seconds: pages and calls take milliseconds, event streams minutes.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// What an answer is counted by beside its route: method and status.
type Kind = (&'static str, u16);

/// The series that an answer counts in.
#[derive(Debug)]
struct Answers {
    requests: Counter,
    durations: Histogram,
}

impl Answers {
    fn count(&self, took: Duration) {
        self.requests.inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// The process' figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram>,
    /// By route: what is in the two above, found without making labels for each answer.
    answers: RwLock<HashMap<String, HashMap<Kind, Answers>>>,
    resident: Gauge,
    ready: Family<Labels, Gauge>,
    busy: Family<Labels, Gauge>,
    queued: Family<Labels, Gauge>,
    model_ready: Family<Labels, Gauge>,
    model_slots: Family<Labels, Gauge>,
    model_memory: Family<Labels, Gauge>,
    power: Family<Labels, Gauge<f64, AtomicU64>>,
    energy: Family<Labels, Gauge<f64, AtomicU64>>,
    /// Part of the prompt tokens that the prefix cache had, since the worker's start.
    hits: Family<Labels, Gauge<f64, AtomicU64>>,
    /// Tokens by which workers' counters and what was heard of them differ: unexplained, and because answers were cut.
    drift: [Family<Labels, Gauge>; 2],
    in_flight: Family<Labels, Gauge>,
    circuit: Family<Labels, Gauge>,
    answered: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    connections: Family<Labels, Gauge>,
    most_connections: Family<Labels, Gauge>,
    cache_hits: Counter,
    cache_misses: Counter,
    cache_answers: Gauge,
    cache_bytes: Gauge,
    /// In the order of [`TOTALS`].
    totals: [Family<Labels, Counter>; TOTALS.len()],
    /// Held while the text is made.
    telling: Mutex<()>,
}

/// A worker's counter: its name, what it counts, and where it is.
type Total = (&'static str, &'static str, fn(&Totals) -> u64);

/// Counters that the workers keep themselves. They begin at 0 with each start of a worker, as Prometheus expects.
const TOTALS: [Total; 11] = [
    ("worker_completions", "Completions begun", |totals| totals.requests),
    ("worker_prompt_tokens", "Tokens of prompts", |totals| totals.prompt_tokens),
    ("worker_cached_tokens", "Tokens of prompts that the prefix cache had", |totals| totals.cached_tokens),
    ("worker_completion_tokens", "Tokens of completions", |totals| totals.completion_tokens),
    ("worker_evaluated_tokens", "Tokens that went through the model", |totals| totals.evaluated_tokens),
    ("worker_drafted_tokens", "Tokens guessed ahead", |totals| totals.drafted_tokens),
    ("worker_accepted_tokens", "Tokens guessed ahead that were right", |totals| totals.accepted_tokens),
    ("worker_forced_tokens", "Tokens that a schema or grammar left no choice about", |totals| totals.forced_tokens),
    ("worker_evicted_cells", "Cells of the prefix cache given up for room", |totals| totals.evicted_cells),
    ("worker_loads", "Models loaded", |totals| totals.loads),
    ("worker_pauses", "Completions that made room for others for a while", |totals| totals.pauses),
];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kontor");
        let requests = Family::<Labels, Counter>::default();
        let durations = Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let resident = Gauge::default();
        let [ready, busy, queued, model_ready, model_slots, model_memory] = std::array::from_fn(|_| Family::<Labels, Gauge>::default());
        registry.register("http_requests", "Requests answered, by route, method and status", requests.clone());
        registry.register_with_unit("http_request_duration", "Time to the response's head, by route", Unit::Seconds, durations.clone());
        registry.register_with_unit("process_resident_memory", "Resident memory of this process", Unit::Bytes, resident.clone());
        registry.register("worker_ready", "1 if the worker takes requests", ready.clone());
        registry.register("worker_busy", "Conversations being decoded", busy.clone());
        registry.register("worker_queued", "Requests waiting for a slot", queued.clone());
        let [power, energy] = std::array::from_fn(|_| Family::<Labels, Gauge<f64, AtomicU64>>::default());
        let watts = Unit::Other("watts".into());
        registry.register_with_unit("worker_device_power", "Draw of a processor or card of the worker's machine", watts, power.clone());
        let help = "Energy that it has taken since some moment before now; falls only when the worker restarts";
        registry.register_with_unit("worker_device_energy", help, Unit::Joules, energy.clone());
        registry.register("worker_model_ready", "1 if the model is loaded", model_ready.clone());
        registry.register("worker_model_slots", "Conversations that the model's engine decodes at the same time", model_slots.clone());
        let memory = "Memory that the model takes, or is estimated to take";
        registry.register_with_unit("worker_model_memory", memory, Unit::Bytes, model_memory.clone());
        let hits = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        registry.register("worker_prefix_hit_ratio", "Part of the prompt tokens that the prefix cache had", hits.clone());
        let drift: [Family<Labels, Gauge>; 2] = std::array::from_fn(|_| Family::default());
        let help = "Tokens by which the worker's counters and what the ledger was told of its answers differ, unexplained";
        registry.register("ledger_drift_tokens", help, drift[0].clone());
        registry.register("ledger_cut_tokens", "The same, of answers whose last counters were not heard", drift[1].clone());
        let [in_flight, circuit, connections, most_connections] = std::array::from_fn(|_| Family::<Labels, Gauge>::default());
        let [answered, failed] = std::array::from_fn(|_| Family::<Labels, Counter>::default());
        registry.register("worker_in_flight", "Uses of this process that the worker or upstream works on", in_flight.clone());
        registry.register("worker_circuit_open", "1 if it failed again and again and is left alone for a while", circuit.clone());
        registry.register("worker_answers", "Uses of this process that it answered", answered.clone());
        registry.register("worker_failures", "Uses of this process in which it failed", failed.clone());
        registry.register("database_connections", "Connections to the database, by pool and state", connections.clone());
        registry.register("database_connections_limit", "Connections that a pool has at most", most_connections.clone());
        let [cache_hits, cache_misses] = std::array::from_fn(|_| Counter::default());
        let [cache_answers, cache_bytes] = std::array::from_fn(|_| Gauge::default());
        registry.register("response_cache_hits", "Answers told again from memory", cache_hits.clone());
        registry.register("response_cache_misses", "Answers that had to be made though the cache was asked", cache_misses.clone());
        registry.register("response_cache_answers", "Answers that are kept", cache_answers.clone());
        registry.register_with_unit("response_cache", "What they take", Unit::Bytes, cache_bytes.clone());
        let totals = TOTALS.map(|(name, help, _)| {
            let counter = Family::<Labels, Counter>::default();
            registry.register(name, help, counter.clone());
            counter
        });
        Self {
            registry,
            requests,
            durations,
            answers: RwLock::default(),
            resident,
            ready,
            busy,
            queued,
            model_ready,
            model_slots,
            model_memory,
            power,
            energy,
            hits,
            drift,
            in_flight,
            circuit,
            answered,
            failed,
            connections,
            most_connections,
            cache_hits,
            cache_misses,
            cache_answers,
            cache_bytes,
            totals,
            telling: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts one answered request; `route` is the route's pattern, never the path.
    pub fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let kind = (name(method), status.as_u16());
        if let Some(answers) = self.answers.read().unwrap_or_else(PoisonError::into_inner).get(route).and_then(|kinds| kinds.get(&kind)) {
            return answers.count(took);
        }
        let mut known = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        let kinds = known.entry(route.to_owned()).or_default();
        kinds.entry(kind).or_insert_with(|| self.answers_of(route, kind)).count(took);
    }

    fn answers_of(&self, route: &str, (method, status): Kind) -> Answers {
        let route = ("route", route.to_owned());
        let labels = vec![route.clone(), ("method", method.to_owned()), ("status", status.to_string())];
        Answers { requests: self.requests.get_or_create_owned(&labels), durations: self.durations.get_or_create_owned(&vec![route]) }
    }

    /// The text for Prometheus: our own figures, the workers' (of those that have left, how they agreed with the ledger), the
    /// response cache's and the database's of this moment, and the funnel's.
    ///
    /// # Errors
    /// The text could not be written.
    pub fn render(
        &self,
        workers: &[WorkerLoad],
        reconciled: &BTreeMap<String, Reconciled>,
        cache: CacheFigures,
        connections: [Connections; 2],
        funnel: &inference::Metrics,
    ) -> Result<String, std::fmt::Error> {
        let _alone = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = memory_stats() {
            self.resident.set(i64::try_from(memory.physical_mem).unwrap_or(i64::MAX));
        }
        self.cache_hits.inner().store(cache.hits, Ordering::Relaxed);
        self.cache_misses.inner().store(cache.misses, Ordering::Relaxed);
        self.cache_answers.set(i64::try_from(cache.answers).unwrap_or(i64::MAX));
        self.cache_bytes.set(i64::try_from(cache.bytes).unwrap_or(i64::MAX));
        self.forget_workers();
        for worker in workers {
            let labels = vec![("worker", worker.name.clone())];
            self.ready.get_or_create(&labels).set(i64::from(worker.ready));
            self.busy.get_or_create(&labels).set(i64::from(worker.busy));
            self.queued.get_or_create(&labels).set(i64::from(worker.queued));
            self.dispatches(worker);
            worker.models.iter().for_each(|model| self.model(&worker.name, model));
            worker.devices.iter().for_each(|device| self.device(&worker.name, device));
            for (family, (.., read)) in self.totals.iter().zip(TOTALS) {
                family.get_or_create(&labels).inner().store(read(&worker.totals), Ordering::Relaxed);
            }
            if worker.totals.prompt_tokens > 0 {
                self.hits.get_or_create(&labels).set(ratio(worker.totals.cached_tokens, worker.totals.prompt_tokens));
            }
        }
        for (worker, reconciled) in reconciled {
            for (family, tokens) in self.drift.iter().zip([reconciled.drift, reconciled.cut]) {
                family.get_or_create(&vec![("worker", worker.clone())]).set(i64::try_from(tokens).unwrap_or(i64::MAX));
            }
        }
        connections.into_iter().for_each(|pool| self.database(pool));
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        funnel.encode(&mut text)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    /// One that has left would be told for ever as it was last; those that are there are told anew.
    fn forget_workers(&self) {
        let gauges = [&self.ready, &self.busy, &self.queued, &self.in_flight, &self.circuit];
        let of_models = [&self.model_ready, &self.model_slots, &self.model_memory];
        gauges.into_iter().chain(of_models).chain(&self.drift).for_each(Family::clear);
        [&self.power, &self.energy, &self.hits].into_iter().for_each(Family::clear);
        [&self.answered, &self.failed].into_iter().chain(&self.totals).for_each(Family::clear);
    }

    /// What this process has to do with a worker.
    fn dispatches(&self, worker: &WorkerLoad) {
        let labels = vec![("worker", worker.name.clone())];
        self.in_flight.get_or_create(&labels).set(i64::from(worker.in_flight));
        self.circuit.get_or_create(&labels).set(i64::from(worker.circuit_open));
        for (family, count) in [(&self.answered, worker.answered), (&self.failed, worker.failed)] {
            family.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
    }

    fn database(&self, Connections { pool, busy, idle, most }: Connections) {
        for (state, count) in [("busy", busy), ("idle", idle)] {
            self.connections.get_or_create(&vec![("pool", pool.to_owned()), ("state", state.to_owned())]).set(i64::from(count));
        }
        self.most_connections.get_or_create(&vec![("pool", pool.to_owned())]).set(i64::from(most));
    }

    fn device(&self, worker: &str, device: &Device) {
        // Workers of one machine tell the same, and machines may have cards of the same name.
        let labels = vec![("worker", worker.to_owned()), ("machine", device.machine.clone()), ("device", device.name.clone())];
        for (family, thousandths) in [(&self.power, device.power_mw), (&self.energy, device.energy_mj)] {
            if let Some(thousandths) = thousandths {
                family.get_or_create(&labels).set(ratio(thousandths, 1000));
            }
        }
    }

    fn model(&self, worker: &str, model: &LoadedModel) {
        let labels = vec![("worker", worker.to_owned()), ("model", model.id.clone())];
        self.model_ready.get_or_create(&labels).set(i64::from(model.state == ModelState::Ready));
        self.model_slots.get_or_create(&labels).set(i64::from(model.slots));
        self.model_memory.get_or_create(&labels).set(i64::try_from(model.memory).unwrap_or(i64::MAX));
    }
}

/// The method as a label. Clients may make up others, and each would be one more series.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// The router of the metrics port: `GET /metrics`.
pub fn router(metrics: Arc<Metrics>, inference: Inference, db: Db) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state((metrics, inference, db))
}

async fn scrape(State((metrics, inference, db)): State<(Arc<Metrics>, Inference, Db)>) -> Response {
    let workers = inference.pool().load().await;
    let reconciled = inference.pool().reconciled();
    match metrics.render(&workers, &reconciled, inference.cache_figures(), db.connections(), inference.metrics()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

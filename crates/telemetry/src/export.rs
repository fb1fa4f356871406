//! The way to a collector: OTLP over HTTP, as protobuf, in batches and beside the work.
//!
//! The SDK reads `OTEL_*` by itself: headers and time limits of the export, sizes of batches, attributes of the resource.

use crate::trace::{Inner, Tracer};
use async_trait::async_trait;
use bytes::BytesMut;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Config, Sampler, SdkTracerProvider, ShouldSample},
};
use reqwest::{Client, redirect::Policy};
use std::{mem::take, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// For a connection to the collector to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole export.
const EXPORT: Duration = Duration::from_secs(10);
/// Longest answer of a collector that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The whole address, e.g. `http://127.0.0.1:4318/v1/traces`.
    pub target: String,
    /// `service.name`; `None`: what `OTEL_SERVICE_NAME` says.
    pub service: Option<&'static str>,
    /// Part of the traces that are recorded, 0 to 1. `None`: what `OTEL_TRACES_SAMPLER` says, or all. Where callers are not
    /// accepted, it judges only where a trace begins here: what was decided there holds for all that lies below.
    pub ratio: Option<f64>,
    /// Who sends a trace along decides whether it is recorded. Else that trace goes on here, and it is recorded as often as
    /// one that begins here.
    pub accept: bool,
    /// Tell upstreams which trace their work belongs to.
    pub upstreams: bool,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no HTTP client can be made for the traces: {0}")]
    Client(reqwest::Error),
    #[error("the exporter of traces cannot be made: {0}")]
    Exporter(String),
}

impl Tracer {
    /// Begins to export. Needs a tokio runtime, which lives as long as the tracer.
    ///
    /// # Errors
    /// See [`StartError`]. A collector that does not answer is none: the log says so, and the spans are lost.
    pub fn export(settings: &Settings) -> Result<Self, StartError> {
        // What the provider takes by itself: it reads the environment.
        Self::export_sampled(settings, || Config::default().sampler)
    }

    /// The same. `environment` makes the sampler that is taken where the settings name no ratio.
    pub(crate) fn export_sampled(settings: &Settings, environment: impl FnOnce() -> Box<dyn ShouldSample>) -> Result<Self, StartError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(settings.target.clone())
            .with_http_client(Collector::new()?)
            .build()
            .map_err(|error| StartError::Exporter(error.to_string()))?;
        let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if let Some(service) = settings.service {
            resource = resource.with_service_name(service);
        }
        let mut sampler: Box<dyn ShouldSample> = match settings.ratio {
            Some(ratio) => Box::new(Sampler::TraceIdRatioBased(ratio)),
            None => environment(),
        };
        // A sampler that asks no parent would judge a stranger's trace by its id, which the stranger has chosen.
        if settings.ratio.is_some() || !settings.accept {
            sampler = Box::new(Sampler::ParentBased(sampler));
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build());
        let provider = provider.with_sampler(sampler.clone()).build();
        let tracer = provider.tracer("kontor");
        let sampler = (!settings.accept).then_some(sampler);
        Ok(Self(Some(Arc::new(Inner { provider, tracer, sampler, upstreams: settings.upstreams }))))
    }
}

/// Sends from the SDK's own thread, over the runtime of everybody else.
#[derive(Debug)]
struct Collector {
    client: Client,
    runtime: Handle,
}

impl Collector {
    fn new() -> Result<Self, StartError> {
        // Whoever installed one before has made the same choice: there is no other in this workspace.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().connect_timeout(CONNECT).timeout(EXPORT).redirect(Policy::none()).no_proxy();
        Ok(Self { client: client.build().map_err(StartError::Client)?, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.spawn(exchange(self.client.clone(), request)).await?
    }
}

async fn exchange(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(ResponseBodyTooLarge::new().into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = take(answer.headers_mut());
    Ok(response)
}

//! Spans, and where one is among them.

use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, ShouldSample};
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};
use tokio::task::{futures::TaskLocalFuture, spawn_blocking};
use tracing::{Instrument, instrument::Instrumented};

tokio::task_local! {
    static HERE: Trace;
}

/// Makes traces, or none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(pub(crate) Option<Arc<Inner>>);

pub(crate) struct Inner {
    pub(crate) provider: SdkTracerProvider,
    pub(crate) tracer: SdkTracer,
    /// Decides about traces that callers send along; `None`: they do.
    pub(crate) sampler: Option<Box<dyn ShouldSample>>,
    /// Upstreams are told which trace their work belongs to.
    pub(crate) upstreams: bool,
}

/// Nothing of the exporter, whose headers may hold a secret.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

impl Tracer {
    /// Sends what is left and ends; spans that end later are lost.
    pub async fn shutdown(&self, within: Duration) {
        let Some(inner) = self.0.clone() else { return };
        // It waits for a thread of its own.
        let ended = spawn_blocking(move || inner.provider.shutdown_with_timeout(within)).await;
        match ended.map_err(|error| error.to_string()).and_then(|ended| ended.map_err(|error| error.to_string())) {
            Ok(()) => {}
            Err(error) => tracing::warn!(error, "the last spans could not be exported"),
        }
    }
}

/// A place within a trace, or within none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trace(pub(crate) Option<At>);

#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) tracer: Arc<Inner>,
    pub(crate) context: Context,
}

impl Trace {
    /// Where this task is.
    #[must_use]
    pub fn here() -> Self {
        HERE.try_with(Self::clone).unwrap_or_default()
    }

    /// Work that is done here.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        HERE.scope(self, work)
    }

    /// Begins a piece of work below this one. `name` has few values.
    pub fn child(&self, kind: SpanKind, name: impl FnOnce() -> String) -> Span {
        match &self.0 {
            Some(At { tracer, context }) => Span::begin(tracer.clone(), context, kind, name()),
            None => Span::default(),
        }
    }

    /// Adds to the span that this is in, if that is recorded.
    pub fn set<I: IntoIterator<Item = KeyValue>>(&self, attributes: impl FnOnce() -> I) {
        if let Some(At { context, .. }) = &self.0 {
            let span = context.span();
            if span.is_recording() {
                span.set_attributes(attributes());
            }
        }
    }

    /// The trace's id for logs, 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.0.as_ref().map(|at| at.context.span().span_context().trace_id().to_string())
    }
}

/// A piece of work within a trace, or nothing. It ends when it is dropped.
#[must_use = "it ends when it is dropped"]
#[derive(Debug, Default)]
pub struct Span(Trace);

impl Span {
    pub(crate) fn begin(tracer: Arc<Inner>, parent: &Context, kind: SpanKind, name: String) -> Self {
        let span = tracer.tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        let context = Context::new().with_span(span);
        Self(Trace(Some(At { tracer, context })))
    }

    /// The place within it.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.0.clone()
    }

    /// Adds to it, if it is recorded.
    pub fn set<I: IntoIterator<Item = KeyValue>>(&self, attributes: impl FnOnce() -> I) {
        self.0.set(attributes);
    }

    /// Gives it another name, now that more is known.
    pub fn rename(&self, name: impl FnOnce() -> String) {
        if let Trace(Some(At { context, .. })) = &self.0 {
            context.span().update_name(name());
        }
    }

    /// It failed; `error` has few values.
    pub fn fail(&self, error: impl Into<Cow<'static, str>>) {
        if let Trace(Some(At { context, .. })) = &self.0 {
            let (span, error): (_, Cow<'static, str>) = (context.span(), error.into());
            span.set_attribute(KeyValue::new("error.type", error.clone()));
            span.set_status(Status::error(error));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Places within it may live on in other tasks.
        if let Trace(Some(At { context, .. })) = &self.0 {
            context.span().end();
        }
    }
}

/// Work that is part of what goes on here, for a task of its own: it stays within the trace, and its log lines keep the
/// request's id.
pub fn carried<F: Future>(work: F) -> Instrumented<TaskLocalFuture<Trace, F>> {
    Trace::here().scope(work).instrument(tracing::Span::current())
}

/// An attribute of several texts.
#[must_use]
pub fn texts(name: &'static str, values: impl IntoIterator<Item = &'static str>) -> KeyValue {
    KeyValue::new(name, Value::Array(Array::String(values.into_iter().map(StringValue::from).collect())))
}

//! Traces of what happens to a request, over processes, as OpenTelemetry has them.
//!
//! A [`Tracer`] makes them, or nothing: off is its default, and then nothing here costs more than a look whether it is on.
//! Where a task is within a trace goes along with it ([`Trace::here`]), so nothing between edge and backend has to hand it
//! on; what goes on in a task of its own is [`carried`] there. There is no state of the process: two tracers may live beside
//! each other.
//!
//! Spans hold names, counts, times and ids. What people and models say is in none of them, and there is no switch for it.

#[cfg(target_family = "wasm")]
compile_error!("`telemetry` is server-only");

mod export;
mod headers;
mod trace;

pub use export::{Settings, StartError};
pub use opentelemetry::{KeyValue, trace::SpanKind as Kind};
pub use trace::{Span, Trace, Tracer, carried, texts};

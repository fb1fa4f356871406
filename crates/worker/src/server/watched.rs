//! One answer as its span shows it: how long it waited, was prefilled and decoded.

use telemetry::{KeyValue, Kind, Span, texts};
use worker_protocol::{Event, FailCode, Finish, Timings, Usage};

/// See the module. Its span lies below the one that the pool sent along; without that there is none.
pub(super) struct Watched {
    /// What goes on now; ends before `whole`.
    phase: Option<Span>,
    decoding: bool,
    whole: Span,
}

impl Watched {
    pub(super) fn new(whole: Span) -> Self {
        let phase = Some(whole.trace().child(Kind::Internal, || "queue".into()));
        Self { phase, decoding: false, whole }
    }

    /// Something is told to the pool.
    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Queued { .. } | Event::Ended { .. } | Event::Vectors { .. } => {}
            Event::Started { .. } => self.begin("prefill"),
            Event::Text { .. } | Event::Reasoning { .. } | Event::ToolCall { .. } => {
                if !std::mem::replace(&mut self.decoding, true) {
                    self.begin("decode");
                }
            }
            Event::Done { finish, usage, timings, .. } => self.done(*finish, *usage, *timings),
            Event::Failed { code, usage, .. } => {
                self.count(*usage);
                self.whole.fail(name(*code));
                self.phase = None;
            }
        }
    }

    fn begin(&mut self, phase: &'static str) {
        // The one before ends first.
        self.phase = None;
        self.phase = Some(self.whole.trace().child(Kind::Internal, || phase.into()));
    }

    fn done(&mut self, finish: Finish, usage: Usage, timings: Timings) {
        self.phase = None;
        self.count(usage);
        self.whole.set(|| {
            [
                texts("gen_ai.response.finish_reasons", [finish.name()]),
                KeyValue::new("kontor.queued_ms", i64::from(timings.queued_ms)),
                KeyValue::new("kontor.prefill_ms", i64::from(timings.prefill_ms)),
                KeyValue::new("kontor.ttft_ms", i64::from(timings.ttft_ms)),
                KeyValue::new("kontor.decode_ms", i64::from(timings.decode_ms)),
            ]
        });
    }

    /// Under names of our own: the funnel's span has the conventions', and who sums them up shall not count twice.
    fn count(&self, usage: Usage) {
        self.whole.set(|| {
            [
                KeyValue::new("kontor.prompt_tokens", i64::from(usage.prompt_tokens)),
                KeyValue::new("kontor.cached_tokens", i64::from(usage.cached_tokens)),
                KeyValue::new("kontor.completion_tokens", i64::from(usage.completion_tokens)),
                KeyValue::new("kontor.reasoning_tokens", i64::from(usage.reasoning_tokens)),
            ]
        });
    }
}

fn name(code: FailCode) -> &'static str {
    match code {
        FailCode::ContextLengthExceeded => "context_length_exceeded",
        FailCode::Invalid => "invalid",
        FailCode::Unsupported => "unsupported",
        FailCode::ContentFilter => "content_filter",
        FailCode::Overloaded => "overloaded",
        FailCode::Engine => "engine",
        FailCode::Cancelled => "cancelled",
    }
}

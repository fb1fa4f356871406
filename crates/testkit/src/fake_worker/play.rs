//! An answer as its script has it.

use super::{Inner, lock};
use crate::script::{Script, ScriptEnd};
use axum::body::Bytes;
use futures::{Stream, stream};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker_protocol::{Event, FailCode, Timings, Usage};

/// One request being answered.
pub(super) struct Play {
    id: Uuid,
    steps: VecDeque<(Duration, Event)>,
    script: Script,
    spent: Usage,
    inner: Arc<Mutex<Inner>>,
    cancelled: Arc<CancellationToken>,
    over: bool,
}

impl Play {
    pub(super) fn new(id: Uuid, steps: VecDeque<(Duration, Event)>, script: Script, inner: Arc<Mutex<Inner>>) -> Self {
        let cancelled = Arc::new(CancellationToken::new());
        {
            let mut inner = lock(&inner);
            inner.running += 1;
            inner.answering.insert(id, cancelled.clone());
        }
        Self { id, steps, script, spent: Usage::default(), inner, cancelled, over: false }
    }

    pub(super) fn stream(self) -> Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> {
        Box::pin(stream::unfold(self, |mut play| async move { play.step().await.map(|line| (line, play)) }))
    }

    async fn step(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        let cancelled = self.cancelled.clone();
        if let Some(line) = cancelled.run_until_cancelled(self.next_line()).await {
            return Some(line);
        }
        self.over = true;
        lock(&self.inner).cancelled.push(Instant::now());
        Some(Ok(line(&Event::Failed { code: FailCode::Cancelled, message: String::new(), usage: self.spent })))
    }

    async fn next_line(&mut self) -> io::Result<Bytes> {
        if let Some((pause, _)) = self.steps.front() {
            tokio::time::sleep(*pause).await;
        }
        if let Some((_, event)) = self.steps.pop_front() {
            match event {
                Event::Started { prompt_tokens, cached_tokens } => self.spent = Usage { prompt_tokens, cached_tokens, ..self.spent },
                Event::Text { completion_tokens, .. }
                | Event::Reasoning { completion_tokens, .. }
                | Event::ToolCall { completion_tokens, .. } => self.spent.completion_tokens = completion_tokens,
                _ => {}
            }
            return Ok(line(&event));
        }
        let usage = self.script.usage();
        match self.script.end {
            ScriptEnd::Done(finish) => {
                self.over = true;
                Ok(line(&Event::Done { finish, stop: self.script.stop.clone(), usage, timings: Timings::default() }))
            }
            ScriptEnd::Failed(code) => {
                self.over = true;
                Ok(line(&Event::Failed { code, message: self.script.reason.clone(), usage }))
            }
            ScriptEnd::DropConnection => {
                self.over = true;
                // What was written before must have left, as it has when a process dies later.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::other("connection dropped as scripted"))
            }
            ScriptEnd::Hang => std::future::pending().await,
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        inner.running -= 1;
        // A second try of the same use may have come meanwhile.
        if inner.answering.get(&self.id).is_some_and(|known| Arc::ptr_eq(known, &self.cancelled)) {
            inner.answering.remove(&self.id);
        }
        inner.totals.requests += 1;
        inner.totals.prompt_tokens += u64::from(self.spent.prompt_tokens);
        inner.totals.cached_tokens += u64::from(self.spent.cached_tokens);
        inner.totals.completion_tokens += u64::from(self.spent.completion_tokens);
        if !self.over {
            inner.cancelled.push(Instant::now());
        }
    }
}

fn line(event: &Event) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("events serialise");
    line.push(b'\n');
    line.into()
}

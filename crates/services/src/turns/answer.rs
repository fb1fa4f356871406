//! What a turn makes: one text.

use crate::running::runner::{Draft, Over, Why};
use contract::chat::{AnswerStats, MessageStatus, TurnEvent, is_refused};
use domain::Error;
use inference::{Generation, Output};

/// The text is kept if it has grown by one part in this many.
const KEEP_GROWTH: usize = 16;

/// The problem code of a turn whose process ended.
pub(crate) const SERVER_RESTARTED: &str = "server_restarted";

/// An answer that is being made.
#[derive(Debug)]
pub(crate) struct Answer {
    text: String,
    /// Bytes of `text` that were told.
    sent: usize,
    kept: usize,
    /// Place in the queue and expected wait that are to be told.
    queued: Option<(u32, Option<u32>)>,
}

impl Answer {
    /// `text` is what the answer has already (*Continue*).
    pub(crate) fn new(text: String) -> Self {
        let sent = text.len();
        Self { sent, kept: sent, text, queued: None }
    }

    /// What was not told yet.
    pub(crate) fn events(&self) -> Vec<TurnEvent> {
        let queued = self.queued.map(|(place, wait_ms)| TurnEvent::Queued { place, wait_ms });
        queued.into_iter().chain(text_event(&self.text, self.sent)).collect()
    }

    /// All of [`Self::events`] was told.
    pub(crate) fn told(&mut self) {
        self.queued = None;
        self.sent = self.text.len();
    }

    /// What was told goes up to this byte only.
    pub(crate) fn told_up_to(&mut self, sent: usize) {
        self.sent = sent.min(self.text.len());
    }

    /// The text, if it is worth keeping. That costs as much as the text is long (it is indexed for the search), so a
    /// long one is kept less often. Until then the events have it.
    pub(crate) fn unkept(&self) -> Option<&str> {
        let grown = self.text.len() - self.kept;
        (grown > 0 && grown * KEEP_GROWTH >= self.text.len()).then_some(self.text.as_str())
    }

    /// The text as it is was kept.
    pub(crate) fn keep(&mut self) {
        self.kept = self.text.len();
    }
}

impl Draft for Answer {
    fn take(&mut self, output: Output) {
        match output {
            Output::Queued { place, wait_ms } => self.queued = Some((place, wait_ms)),
            Output::Text { text, .. } => {
                self.queued = None;
                // NUL is the one character that Postgres cannot store.
                if text.contains('\0') {
                    self.text.push_str(&text.replace('\0', ""));
                } else {
                    self.text.push_str(&text);
                }
            }
            // Chats offer no tools, ask for one answer and show what is said, not what is thought.
            Output::Started { .. }
            | Output::Reasoning { .. }
            | Output::ToolCall { .. }
            | Output::Vectors { .. }
            | Output::Ended { .. }
            | Output::End(_) => {}
        }
    }

    fn waits(&self) -> bool {
        self.sent < self.text.len() || self.queued.is_some()
    }
}

/// What a turn produced, and how it ended.
#[derive(Debug)]
pub(crate) struct Produced {
    pub text: String,
    /// Bytes of `text` that the sink has.
    pub sent: usize,
    pub status: MessageStatus,
    pub error: Option<String>,
    pub stats: Option<AnswerStats>,
    /// The model that was asked, whichever answered; `None`: none was.
    pub asked: Option<String>,
    /// Rules that let the request pass and warn of it.
    pub warnings: Vec<String>,
}

impl Produced {
    /// What came of a generation that was followed to its end.
    pub(crate) fn of(over: Over<Answer>, generation: &Generation) -> Self {
        let warnings = generation.route().map(|route| route.warnings).unwrap_or_default();
        Self { asked: Some(generation.model().to_owned()), warnings, ..Self::from(over) }
    }

    /// A guardrail or a content filter refused the question.
    pub(crate) fn is_refused(&self) -> bool {
        is_refused(self.error.as_deref(), self.stats.as_ref(), &self.text)
    }

    /// The turn's last event.
    pub(crate) fn end_event(&self) -> TurnEvent {
        let Self { status, error, stats, warnings, .. } = self;
        TurnEvent::End { status: *status, error: error.clone(), stats: stats.clone(), warnings: warnings.clone() }
    }
}

impl From<Over<Answer>> for Produced {
    fn from(over: Over<Answer>) -> Self {
        let (status, error) = over.why.map_or((MessageStatus::Complete, None), end);
        Self { text: over.draft.text, sent: over.draft.sent, status, error, stats: over.stats, asked: None, warnings: Vec::new() }
    }
}

fn end(why: Why) -> (MessageStatus, Option<String>) {
    match why {
        Why::Stopped => (MessageStatus::Stopped, None),
        Why::Restart => (MessageStatus::Interrupted, Some(SERVER_RESTARTED.into())),
        Why::Failed(error) => {
            if let Error::Internal(source) = &error {
                // No edge sees this error; it is logged here, once.
                tracing::error!(%source, "a turn failed");
            }
            (MessageStatus::Interrupted, Some(error.problem().code))
        }
    }
}

/// The part of the answer that the sink does not have yet.
pub(crate) fn text_event(text: &str, sent: usize) -> Option<TurnEvent> {
    let rest = text.get(sent..).filter(|rest| !rest.is_empty())?;
    Some(TurnEvent::Text { at: u32::try_from(sent).unwrap_or(u32::MAX), text: rest.into() })
}

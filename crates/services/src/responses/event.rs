//! What a model says, piece by piece.

use super::item::{Item, Role};
use crate::{
    check,
    running::runner::{Draft, Why},
};
use contract::{
    Millis,
    chat::AnswerStats,
    problem::{Problem, ProblemKind},
    usage::Money,
};
use domain::{Amount, Currency, Error};
use inference::{Finish, Output, ToolCall};
use serde::{Deserialize, Serialize};
use store::responses::ResponseStatus;

/// One piece. Clients' events are made from these, always the same ones from the same pieces, so that they can be
/// counted anew by whoever reads the pieces from the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseEvent {
    /// The model has begun.
    Started,
    /// It thinks.
    Reasoning {
        text: String,
    },
    Text {
        text: String,
    },
    /// It wants a function called.
    Call {
        call: ToolCall,
    },
    /// The last one.
    End(ResponseEnd),
}

/// How a response ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseEnd {
    pub status: ResponseStatus,
    pub stats: Option<AnswerStats>,
    /// `None` where there is no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Why, if it failed.
    pub problem: Option<Problem>,
    pub at: Millis,
}

impl ResponseEvent {
    /// Adds the piece to what was said so far: to the last item if it goes on, else as a new one.
    pub fn add_to(&self, items: &mut Vec<Item>) {
        match (self, items.last_mut()) {
            (Self::Text { text }, Some(Item::Message { texts, .. })) if !texts.is_empty() => {
                let last = texts.len() - 1;
                texts[last].push_str(text);
            }
            (Self::Text { text }, _) => items.push(Item::says(Role::Assistant, vec![text.clone()])),
            (Self::Reasoning { text }, Some(Item::Reasoning { text: before })) => before.push_str(text),
            (Self::Reasoning { text }, _) => items.push(Item::Reasoning { text: text.clone() }),
            (Self::Call { call }, _) => items.push(Item::Call { call: call.clone() }),
            (Self::Started | Self::End(_), _) => {}
        }
    }

    /// The pieces that say these items.
    pub(crate) fn of(items: Vec<Item>) -> Vec<Self> {
        let event = |item| match item {
            Item::Message { texts, .. } => Some(Self::Text { text: texts.concat() }),
            Item::Reasoning { text } => Some(Self::Reasoning { text }),
            Item::Call { call } => Some(Self::Call { call }),
            // Models say no such thing.
            Item::CallOutput { .. } => None,
        };
        items.into_iter().filter_map(event).collect()
    }

    /// Takes another piece in if both are parts of the same.
    fn join(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text { text }, Self::Text { text: more }) | (Self::Reasoning { text }, Self::Reasoning { text: more }) => {
                text.push_str(more);
                true
            }
            _ => false,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Text { text } | Self::Reasoning { text } if text.is_empty())
    }
}

impl ResponseEnd {
    /// `why` is `None` if the model came to its own end.
    pub(crate) fn of(why: Option<Why>, stats: Option<AnswerStats>, cost: Option<(Currency, Amount)>, at: Millis) -> Self {
        let cut_by = |finish: Finish| stats.as_ref().is_some_and(|stats| stats.finish_reason == finish.name());
        let (status, problem) = match why {
            None if cut_by(Finish::Length) || cut_by(Finish::ContentFilter) => (ResponseStatus::Incomplete, None),
            None => (ResponseStatus::Completed, None),
            Some(Why::Stopped) => (ResponseStatus::Cancelled, None),
            Some(Why::Restart) => (ResponseStatus::Failed, Some(restarted())),
            Some(Why::Failed(error)) => {
                if let Error::Internal(source) = &error {
                    // No edge sees this error; it is logged here, once.
                    tracing::error!(%source, "a response failed");
                }
                (ResponseStatus::Failed, Some(error.problem()))
            }
        };
        let cost = cost.map(|(currency, amount)| Money { currency: currency.code().to_owned(), pico: amount.pico() });
        Self { status, stats, cost, problem, at }
    }
}

/// Of a response whose process ended.
pub(crate) fn restarted() -> Problem {
    Problem::new(ProblemKind::Unavailable, "server_restarted", "The server was restarted while this response was being made. Ask again.")
}

/// What a model has said so far.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    pub items: Vec<Item>,
    started: bool,
    /// Not handed on yet; what belongs together becomes one piece.
    waiting: Vec<ResponseEvent>,
    /// Being stored. It stays as it is until it is known to be there, so that it can be stored again under the same
    /// numbers.
    batch: Vec<ResponseEvent>,
}

impl Speech {
    /// What is to be stored now.
    pub(crate) fn batch(&mut self) -> &[ResponseEvent] {
        if self.batch.is_empty() {
            self.batch = std::mem::take(&mut self.waiting);
        }
        &self.batch
    }

    /// The batch is stored.
    pub(crate) fn stored(&mut self) -> Vec<ResponseEvent> {
        std::mem::take(&mut self.batch)
    }

    /// All that is not known to be stored.
    pub(crate) fn rest(&self) -> Vec<ResponseEvent> {
        self.batch.iter().chain(&self.waiting).cloned().collect()
    }

    fn say(&mut self, event: ResponseEvent) {
        if event.is_nothing() {
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            self.waiting.push(ResponseEvent::Started);
        }
        event.add_to(&mut self.items);
        let joined = self.waiting.last_mut().is_some_and(|last| last.join(&event));
        // `Started` is all that there is to say of itself.
        if !joined && event != ResponseEvent::Started {
            self.waiting.push(event);
        }
    }
}

impl Draft for Speech {
    fn take(&mut self, output: Output) {
        match output {
            Output::Started { .. } => self.say(ResponseEvent::Started),
            Output::Reasoning { text, .. } => self.say(ResponseEvent::Reasoning { text: check::clean(text) }),
            Output::Text { text, .. } => self.say(ResponseEvent::Text { text: check::clean(text) }),
            Output::ToolCall { call, .. } => {
                let ToolCall { id, name, arguments } = *call;
                let call = ToolCall { id: check::clean(id), name: check::clean(name), arguments: check::clean(arguments) };
                self.say(ResponseEvent::Call { call });
            }
            Output::Queued { .. } | Output::Vectors { .. } | Output::Ended { .. } | Output::End(_) => {}
        }
    }

    fn waits(&self) -> bool {
        !self.batch.is_empty() || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, Item, ResponseEnd, ResponseEvent, Role, Speech, Why};
    use contract::chat::AnswerStats;
    use domain::Error;
    use inference::{Output, ToolCall};
    use store::responses::ResponseStatus;

    fn text(text: &str) -> Output {
        Output::Text { choice: 0, text: text.into(), logprobs: Vec::new() }
    }

    fn said(text: &str) -> ResponseEvent {
        ResponseEvent::Text { text: text.into() }
    }

    #[test]
    fn what_waits_is_joined_and_what_is_being_stored_is_left_alone() {
        let mut speech = Speech::default();
        assert!(!speech.waits());
        for output in [Output::Started { prompt_tokens: 1, cached_tokens: 0 }, text("a"), text(""), text("b")] {
            speech.take(output);
        }
        assert_eq!(speech.batch(), [ResponseEvent::Started, said("ab")]);
        speech.take(text("c\0"));
        assert_eq!(speech.batch(), [ResponseEvent::Started, said("ab")], "it may be there already");
        assert_eq!(speech.rest(), [ResponseEvent::Started, said("ab"), said("c")]);
        assert_eq!(speech.stored().len(), 2);
        assert_eq!(speech.batch(), [said("c")]);
        speech.stored();
        assert!(!speech.waits());
        assert_eq!(speech.items, [Item::says(Role::Assistant, vec!["abc".into()])]);
    }

    #[test]
    fn the_same_pieces_make_the_same_items_however_they_are_cut() {
        let call = ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{}".into() };
        let mut speech = Speech::default();
        speech.take(Output::Reasoning { choice: 0, text: "h".into() });
        speech.take(Output::Reasoning { choice: 0, text: "m".into() });
        speech.take(text("a"));
        speech.take(Output::ToolCall { choice: 0, index: 0, call: Box::new(call.clone()) });
        speech.take(text("b"));
        let mut items = Vec::new();
        for event in speech.batch() {
            event.add_to(&mut items);
        }
        assert_eq!(items, speech.items);
        assert_eq!(items.len(), 4);
        let mut again = Vec::new();
        for event in ResponseEvent::of(items.clone()) {
            event.add_to(&mut again);
        }
        assert_eq!(again, items);
    }

    #[test]
    fn each_way_to_end_has_its_status() {
        let stats = |reason: &str| Some(AnswerStats { finish_reason: reason.into(), ..AnswerStats::default() });
        let status = |why, stats| ResponseEnd::of(why, stats, None, 0).status;
        assert_eq!(status(None, stats("stop")), ResponseStatus::Completed);
        assert_eq!(status(None, stats("length")), ResponseStatus::Incomplete);
        assert_eq!(status(None, stats("content_filter")), ResponseStatus::Incomplete);
        assert_eq!(status(Some(Why::Stopped), stats("")), ResponseStatus::Cancelled);
        let failed = ResponseEnd::of(Some(Why::Failed(Error::internal("secret"))), None, None, 0);
        assert_eq!(failed.status, ResponseStatus::Failed);
        assert!(!format!("{failed:?}").contains("secret"));
    }
}

//! A response as it is made: named events, numbered from 0.
//!
//! They are made anew for everybody who follows, from all that the model said, and the same comes out each time. So a
//! client can go on behind any number, on any node.

use super::{
    body::{Body, BodyItem, Part, last_status},
    frames::{ArgumentsDone, Broken, Delta, OfItem, OfPart, Out, TextDone, Whole},
};
use crate::sse;
use axum::response::Response as HttpResponse;
use futures::{StreamExt, stream};
use services::responses::{Item, Response, ResponseEnd, ResponseEvent, ResponseEvents, ResponseStatus};

/// Sends what the model says. `after` is the number of the last event that the client has seen.
pub fn respond(response: Response, events: ResponseEvents, after: Option<u64>) -> HttpResponse {
    let scribe = Scribe::new(response, after);
    sse::respond(stream::unfold((scribe, events), |(mut scribe, mut events)| async move {
        loop {
            if let Some(frame) = scribe.out.frames.pop_front() {
                return Some((frame, (scribe, events)));
            }
            if scribe.over {
                return None;
            }
            match events.next().await {
                Some(event) => scribe.take(event),
                None => scribe.break_off(),
            }
        }
    }))
}

/// Writes events.
struct Scribe {
    /// As far as it was told.
    response: Response,
    /// Number of the item that may go on.
    open: Option<usize>,
    over: bool,
    out: Out,
}

impl Scribe {
    fn new(response: Response, after: Option<u64>) -> Self {
        let mut scribe = Self { response: response.at_its_beginning(), open: None, over: false, out: Out::new(after) };
        scribe.whole("response.created");
        if scribe.response.status == ResponseStatus::Queued {
            scribe.whole("response.queued");
        }
        scribe
    }

    fn take(&mut self, event: ResponseEvent) {
        let output_index = self.response.output.len();
        event.add_to(&mut self.response.output);
        if self.response.output.len() > output_index {
            self.close("completed");
            self.begin(output_index);
        }
        match event {
            ResponseEvent::Started => {
                self.response.status = ResponseStatus::InProgress;
                self.whole("response.in_progress");
            }
            ResponseEvent::Reasoning { text } | ResponseEvent::Text { text } => self.go_on(&text),
            ResponseEvent::Call { .. } => {}
            ResponseEvent::End(end) => self.end(end),
        }
    }

    fn whole(&mut self, kind: &'static str) {
        self.out.tell(kind, Whole { response: Body::of(&self.response) });
    }

    /// An item begins. A call comes in one piece, so it ends at once.
    fn begin(&mut self, output_index: usize) {
        let Self { response, open, out, .. } = self;
        let Some(item) = response.output.get(output_index) else { return };
        let id = item.id(response.id, output_index);
        let item_id = id.as_str();
        out.tell("response.output_item.added", OfItem { output_index, item: BodyItem::begun(item, id.clone()) });
        let part = match item {
            Item::Message { .. } => Part::output(""),
            Item::Reasoning { .. } => Part::Reasoning { text: "" },
            Item::Call { call } => {
                let (name, arguments) = (call.name.as_str(), call.arguments.as_str());
                let delta = Delta { item_id, output_index, content_index: None, delta: arguments, logprobs: None };
                out.tell("response.function_call_arguments.delta", delta);
                out.tell("response.function_call_arguments.done", ArgumentsDone { item_id, output_index, name, arguments });
                out.tell("response.output_item.done", OfItem { output_index, item: BodyItem::of(item, id.clone(), "completed") });
                return;
            }
            Item::CallOutput { .. } => return,
        };
        *open = Some(output_index);
        out.tell("response.content_part.added", OfPart { item_id, output_index, content_index: 0, part });
    }

    /// The open item goes on.
    fn go_on(&mut self, delta: &str) {
        let Self { response, open, out, .. } = self;
        let Some(output_index) = *open else { return };
        let Some(item) = response.output.get(output_index) else { return };
        let (kind, logprobs) = match item {
            Item::Reasoning { .. } => ("response.reasoning_text.delta", None),
            _ => ("response.output_text.delta", Some([])),
        };
        let id = item.id(response.id, output_index);
        out.tell(kind, Delta { item_id: &id, output_index, content_index: Some(0), delta, logprobs });
    }

    /// The open item ends, if there is one.
    fn close(&mut self, status: &'static str) {
        let Self { response, open, out, .. } = self;
        let Some(output_index) = open.take() else { return };
        let Some(item) = response.output.get(output_index) else { return };
        let (kind, text, part, logprobs) = match item {
            Item::Message { texts, .. } => {
                let text = texts.first().map_or("", String::as_str);
                ("response.output_text.done", text, Part::output(text), Some([]))
            }
            Item::Reasoning { text } => ("response.reasoning_text.done", text.as_str(), Part::Reasoning { text }, None),
            Item::Call { .. } | Item::CallOutput { .. } => return,
        };
        let id = item.id(response.id, output_index);
        out.tell(kind, TextDone { item_id: &id, output_index, content_index: 0, text, logprobs });
        out.tell("response.content_part.done", OfPart { item_id: &id, output_index, content_index: 0, part });
        out.tell("response.output_item.done", OfItem { output_index, item: BodyItem::of(item, id.clone(), status) });
    }

    fn end(&mut self, end: ResponseEnd) {
        self.response.end(end);
        let status = self.response.output.last().map_or("completed", |item| last_status(self.response.status, item));
        self.close(status);
        // There is no event of its own for a response that was cancelled; its status tells.
        let kind = match self.response.status {
            ResponseStatus::Completed => "response.completed",
            ResponseStatus::Failed => "response.failed",
            _ => "response.incomplete",
        };
        self.out.tell_last(kind, Whole { response: Body::of(&self.response) });
        self.over = true;
    }

    /// There are no more events, although the response has not ended: it was deleted, or the database is away.
    fn break_off(&mut self) {
        let message = "The rest of this response cannot be told. Ask for it again.";
        self.out.tell_last("error", Broken { code: "server_error", message, param: None });
        self.over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Scribe;
    use crate::responses::body::tests::begun;
    use contract::chat::AnswerStats;
    use inference::ToolCall;
    use serde_json::{Value, json};
    use services::responses::{Response, ResponseEnd, ResponseEvent, ResponseStatus};

    fn text(text: &str) -> ResponseEvent {
        ResponseEvent::Text { text: text.into() }
    }

    fn thought(text: &str) -> ResponseEvent {
        ResponseEvent::Reasoning { text: text.into() }
    }

    fn end(status: ResponseStatus) -> ResponseEvent {
        ResponseEvent::End(ResponseEnd { status, stats: Some(AnswerStats::default()), cost: None, problem: None, at: 3_000 })
    }

    fn call() -> ResponseEvent {
        ResponseEvent::Call { call: ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{}".into() } }
    }

    /// What a client behind event number `after` is told.
    fn told(response: Response, events: &[ResponseEvent], after: Option<u64>) -> Vec<Value> {
        let mut scribe = Scribe::new(response, after);
        for event in events {
            scribe.take(event.clone());
        }
        let frame = |frame: axum::body::Bytes| {
            let text = String::from_utf8(frame.to_vec()).unwrap();
            let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let value: Value = serde_json::from_str(data).unwrap();
            assert_eq!(value["type"], name);
            value
        };
        scribe.out.frames.into_iter().map(frame).collect()
    }

    fn kinds(events: &[Value]) -> Vec<&str> {
        events.iter().map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap()).collect()
    }

    #[test]
    fn a_response_with_all_kinds_of_items() {
        let all = [ResponseEvent::Started, thought("h"), thought("m"), text("a"), text("b"), call(), end(ResponseStatus::Completed)];
        let events = told(begun(), &all, None);
        let expected = [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ];
        assert_eq!(kinds(&events), expected);
        assert!((0u64..).zip(&events).all(|(number, event)| event["sequence_number"] == number));
        let indexes: Vec<_> = events.iter().filter_map(|event| event["output_index"].as_u64()).collect();
        assert!(indexes.is_sorted() && indexes.last() == Some(&2));
        assert_eq!((&events[2]["item"]["content"], &events[3]["part"]["text"]), (&json!([]), &json!("")));
        assert_eq!((&events[13]["text"], &events[18]["arguments"]), (&json!("ab"), &json!("{}")));
        let whole = &events[20]["response"];
        for (output_index, done) in [(0, 8), (1, 15), (2, 19)] {
            assert_eq!(whole["output"][output_index], events[done]["item"], "what was told is what there is");
        }
        assert_eq!(events[0]["response"]["output"], json!([]));
    }

    #[test]
    fn whoever_comes_back_is_told_the_rest_under_the_same_numbers() {
        let all = [ResponseEvent::Started, thought("hm"), text("a"), text("b"), end(ResponseStatus::Completed)];
        let whole = told(begun(), &all, None);
        for (after, seen) in (0..).zip(1..whole.len()) {
            assert_eq!(told(begun(), &all, Some(after)), whole[seen..], "after {after}");
        }
        let last = told(begun(), &all, Some(1_000));
        assert_eq!((kinds(&last), &last[0]["sequence_number"]), (vec!["completed"], &json!(1_001)));
    }

    #[test]
    fn an_end_has_the_event_of_its_status() {
        let events = told(begun(), &[ResponseEvent::Started, text("a"), end(ResponseStatus::Incomplete)], None);
        assert_eq!((kinds(&events).last(), &events[7]["item"]["status"]), (Some(&"incomplete"), &json!("incomplete")));
        let queued = Response { background: true, ..begun() };
        let events = told(queued, &[end(ResponseStatus::Cancelled)], None);
        assert_eq!((kinds(&events), &events[2]["response"]["status"]), (vec!["created", "queued", "incomplete"], &json!("cancelled")));
        let events = told(begun(), &[end(ResponseStatus::Failed)], None);
        assert_eq!(kinds(&events), ["created", "failed"]);
        let mut scribe = Scribe::new(begun(), None);
        scribe.break_off();
        assert!(
            scribe.over && scribe.out.frames.back().unwrap().starts_with(b"event: error\ndata: {\"type\":\"error\",\"sequence_number\":1,")
        );
    }
}

//! Following a turn: server-sent events in, one batch of [`TurnEvent`]s per animation frame out.
//!
//! The browser reconnects by itself after a lost connection and hands the server the number of the
//! last event. Where the server answered with an error instead (restart, proxy), the browser gives
//! up; then we begin again, later each time.

use contract::{chat::TurnEvent, ids::TurnId};
use leptos::prelude::*;
use std::{cell::RefCell, rc::Rc, time::Duration};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{EventSource, MessageEvent};

/// Waits before the next attempt, in milliseconds; after the last one we give up.
const PAUSES_MS: [u64; 6] = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
/// How long events are gathered while the page is hidden and has no animation frames.
const HIDDEN_MS: u64 = 250;

/// What following a turn reports.
pub enum News {
    /// Events, in order.
    Events(Vec<TurnEvent>),
    /// The server does not tell any more about this turn; what is stored counts.
    Lost,
}

type Listener = Rc<dyn Fn(News)>;

thread_local! {
    /// A page follows one turn at a time. Browser objects belong to the browser's one thread, so this
    /// is where they live; on the server it stays empty.
    static CURRENT: RefCell<Option<Follower>> = const { RefCell::new(None) };
}

/// Follows a turn from its first event, instead of the one before.
pub fn follow(turn: TurnId, listener: impl Fn(News) + 'static) {
    stop_following();
    let follower = Follower::start(turn, listener);
    CURRENT.with(|current| current.replace(Some(follower)));
}

/// Closes the connection; no more news arrive. Does not stop the turn.
pub fn stop_following() {
    if let Some(follower) = CURRENT.with(RefCell::take) {
        follower.stop();
    }
}

/// Reads the events of the turn again from the first one.
pub fn rewind() {
    let follower = CURRENT.with(|current| current.borrow().clone());
    if let Some(follower) = follower {
        follower.rewind();
    }
}

/// A turn being followed. Dropping it (or [`Follower::stop`]) closes the connection.
#[derive(Clone)]
struct Follower(Rc<RefCell<Inner>>);

struct Inner {
    turn: TurnId,
    source: Option<EventSource>,
    closures: Vec<Closure<dyn FnMut(MessageEvent)>>,
    pending: Vec<TurnEvent>,
    frame_wanted: bool,
    /// The number of the last event that arrived.
    last: Option<String>,
    attempt: usize,
    stopped: bool,
    listener: Listener,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.close();
        }
    }
}

impl Follower {
    /// Follows a turn from its first event.
    fn start(turn: TurnId, listener: impl Fn(News) + 'static) -> Self {
        let follower = Self(Rc::new(RefCell::new(Inner {
            turn,
            source: None,
            closures: Vec::new(),
            pending: Vec::new(),
            frame_wanted: false,
            last: None,
            attempt: 0,
            stopped: false,
            listener: Rc::new(listener),
        })));
        follower.connect();
        follower
    }

    /// Ends the connection; no more news arrive.
    fn stop(&self) {
        let mut inner = self.0.borrow_mut();
        inner.stopped = true;
        if let Some(source) = inner.source.take() {
            source.close();
        }
    }

    /// Reads all events again from the first one.
    fn rewind(&self) {
        {
            let mut inner = self.0.borrow_mut();
            inner.last = None;
            inner.pending.clear();
        }
        self.connect();
    }

    fn connect(&self) {
        let mut inner = self.0.borrow_mut();
        if inner.stopped {
            return;
        }
        if let Some(source) = inner.source.take() {
            source.close();
        }
        let after = inner.last.as_ref().map(|last| format!("?after={last}")).unwrap_or_default();
        let Ok(source) = EventSource::new(&format!("/ui/turns/{}/events{after}", inner.turn)) else {
            drop(inner);
            self.retry();
            return;
        };
        // Weak: the closures live in what they point to.
        let weak = Rc::downgrade(&self.0);
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(inner) = weak.upgrade() {
                Self(inner).received(&event);
            }
        });
        let weak = Rc::downgrade(&self.0);
        let on_error = Closure::<dyn FnMut(MessageEvent)>::new(move |_| {
            if let Some(inner) = weak.upgrade() {
                Self(inner).failed();
            }
        });
        source.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        source.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        inner.source = Some(source);
        // A closure must not be dropped while it runs, and this may be called from one: the old ones
        // go one connection later.
        let surplus = inner.closures.len().saturating_sub(2);
        inner.closures.drain(..surplus);
        inner.closures.extend([on_message, on_error]);
    }

    fn received(&self, event: &MessageEvent) {
        let Some(data) = event.data().as_string() else { return };
        let parsed = serde_json::from_str::<TurnEvent>(&data);
        let mut inner = self.0.borrow_mut();
        if inner.stopped {
            return;
        }
        inner.attempt = 0;
        inner.last = Some(event.last_event_id()).filter(|id| !id.is_empty()).or(inner.last.take());
        match parsed {
            Ok(event) => {
                // The server closes after the end; the browser would take that for a lost connection.
                if matches!(event, TurnEvent::End { .. })
                    && let Some(source) = inner.source.take()
                {
                    source.close();
                }
                inner.pending.push(event);
            }
            // An event of a newer server: what it means is in the stored message.
            Err(error) => leptos::logging::warn!("unknown turn event: {error}"),
        }
        if !std::mem::replace(&mut inner.frame_wanted, true) {
            drop(inner);
            self.schedule();
        }
    }

    fn schedule(&self) {
        let follower = self.clone();
        if document().hidden() {
            set_timeout(move || follower.deliver(), Duration::from_millis(HIDDEN_MS));
        } else {
            request_animation_frame(move || follower.deliver());
        }
    }

    fn deliver(&self) {
        let (events, listener) = {
            let mut inner = self.0.borrow_mut();
            inner.frame_wanted = false;
            if inner.stopped {
                return;
            }
            (std::mem::take(&mut inner.pending), inner.listener.clone())
        };
        if !events.is_empty() {
            listener(News::Events(events));
        }
    }

    fn failed(&self) {
        let closed = self.0.borrow().source.as_ref().is_some_and(|source| source.ready_state() == EventSource::CLOSED);
        // Otherwise the browser is reconnecting.
        if closed {
            self.retry();
        }
    }

    fn retry(&self) {
        let (pause, listener) = {
            let mut inner = self.0.borrow_mut();
            let pause = PAUSES_MS.get(inner.attempt).copied();
            inner.attempt += 1;
            (pause, inner.listener.clone())
        };
        match pause {
            Some(pause) => {
                let follower = self.clone();
                set_timeout(move || follower.connect(), Duration::from_millis(pause));
            }
            None => listener(News::Lost),
        }
    }
}

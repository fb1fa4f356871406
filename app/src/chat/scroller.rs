//! The moving part of the message list: measures rows, keeps the reader's place, keeps the end in
//! view while an answer grows.

use super::{
    rows::Row,
    state::Chat,
    window::{Heights, Window, estimate, offset, window},
};
use contract::ids::MessageId;
use leptos::{html, prelude::*};
use std::cell::RefCell;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{Element, HtmlElement, ResizeObserver, ResizeObserverEntry};

/// This close to the end counts as being there, in pixels.
const AT_END: f64 = 48.0;
/// This close to the first loaded row, earlier ones are fetched, in pixels.
const NEAR_START: f64 = 1_500.0;
/// How many frames a jump is corrected while estimates turn into measurements.
const JUMP_FRAMES: u8 = 12;

/// A browser object and the function it calls.
type Observer = (ResizeObserver, Closure<dyn FnMut(js_sys::Array)>);

thread_local! {
    /// Watches the rendered rows and the list itself. A browser object: on the server it stays empty.
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// A handle to the list's scrolling.
#[derive(Clone, Copy)]
pub struct Scroller {
    chat: Chat,
    /// The element that scrolls.
    pub frame: NodeRef<html::Div>,
    /// What is rendered; `None` until the browser has measured: then it is everything.
    pub window: RwSignal<Option<Window>>,
    /// The end is out of view.
    pub away: RwSignal<bool>,
    heights: StoredValue<Heights>,
    pinned: StoredValue<bool>,
    last_top: StoredValue<f64>,
    width: StoredValue<f64>,
    /// Frames left for getting to a message.
    jump: StoredValue<Option<(MessageId, u8)>>,
    want_earlier: Callback<()>,
}

impl Scroller {
    /// `want_earlier` is called when the reader comes near the first loaded message.
    #[must_use]
    pub fn new(chat: Chat, want_earlier: Callback<()>) -> Self {
        Self {
            chat,
            frame: NodeRef::new(),
            window: RwSignal::new(None),
            away: RwSignal::new(false),
            heights: StoredValue::new(Heights::default()),
            pinned: StoredValue::new(true),
            last_top: StoredValue::new(0.0),
            width: StoredValue::new(0.0),
            jump: StoredValue::new(None),
            want_earlier,
        }
    }

    /// Begins to watch sizes. For the browser, once the list is on the page.
    pub fn start(self) {
        let on_resize = Closure::<dyn FnMut(js_sys::Array)>::new(move |entries: js_sys::Array| self.resized(&entries));
        let Ok(observer) = ResizeObserver::new(on_resize.as_ref().unchecked_ref()) else {
            leptos::logging::error!("this browser has no ResizeObserver; the list is not virtualised");
            return;
        };
        if let Some(frame) = self.frame.get_untracked() {
            observer.observe(&frame);
            if let Some(content) = frame.first_element_child() {
                observer.observe(&content);
            }
        }
        OBSERVER.with(|current| current.replace(Some((observer, on_resize))));
        self.to_end();
    }

    /// Ends watching.
    pub fn stop() {
        if let Some((observer, _)) = OBSERVER.with(RefCell::take) {
            observer.disconnect();
        }
    }

    /// A row came onto the page.
    pub fn watch(element: &Element) {
        OBSERVER.with(|current| {
            if let Some((observer, _)) = &*current.borrow() {
                observer.observe(element);
            }
        });
    }

    /// Another conversation is shown: nothing measured is of use.
    pub fn forget(self) {
        self.heights.update_value(Heights::clear);
        self.jump.set_value(None);
        self.window.set(None);
        self.to_end();
    }

    /// The list is still on the page: frames and observers may fire after it has gone.
    fn is_alive(self) -> bool {
        self.pinned.try_get_value().is_some()
    }

    /// Shows the end and stays there while it grows.
    pub fn to_end(self) {
        self.pinned.set_value(true);
        self.jump.set_value(None);
        self.away.set(false);
        request_animation_frame(move || {
            if self.is_alive() {
                self.update();
                self.stick();
            }
        });
    }

    /// Shows a message, corrected until its place is measured.
    pub fn to_message(self, id: MessageId) {
        if !self.is_alive() {
            return;
        }
        self.pinned.set_value(false);
        self.jump.set_value(Some((id, JUMP_FRAMES)));
        self.jump_step();
    }

    fn jump_step(self) {
        let Some(Some((id, frames))) = self.jump.try_get_value() else {
            return;
        };
        let (Some(frame), Some(index)) = (self.frame.get_untracked(), self.chat.index_of(id)) else {
            self.jump.set_value(None);
            return;
        };
        let top = offset(&self.all_heights(), index) - 72.0;
        if (f64::from(frame.scroll_top()) - top).abs() > 1.0 {
            frame.set_scroll_top(top.max(0.0).round() as i32);
            self.update();
        }
        self.jump.set_value(frames.checked_sub(1).map(|left| (id, left)));
        request_animation_frame(move || self.jump_step());
    }

    /// The reader scrolled, or we did.
    pub fn scrolled(self) {
        if !self.is_alive() {
            return;
        }
        let Some(frame) = self.frame.get_untracked() else { return };
        let top = f64::from(frame.scroll_top());
        let to_end = distance_to_end(&frame);
        let upwards = top < self.last_top.get_value() - 1.0;
        self.last_top.set_value(top);
        // Growing content moves the end away without anybody scrolling; only upwards means leaving it.
        if to_end <= AT_END {
            self.pinned.set_value(true);
        } else if upwards {
            self.pinned.set_value(false);
        }
        let away = !self.pinned.get_value();
        if self.away.get_untracked() != away {
            self.away.set(away);
        }
        self.update();
        if top < NEAR_START && self.chat.earlier.get_untracked() > 0 {
            self.want_earlier.run(());
        }
    }

    /// Ends a jump that is still being corrected: the reader took over.
    pub fn taken_over(self) {
        self.jump.set_value(None);
    }

    /// Brings the window in line with the rows and the place.
    pub fn update(self) {
        if !self.is_alive() {
            return;
        }
        let Some(frame) = self.frame.get_untracked() else { return };
        let seen = window(&self.all_heights(), f64::from(frame.scroll_top()), f64::from(frame.client_height()));
        if self.window.with_untracked(|current| current.as_ref() != Some(&seen)) {
            self.window.set(Some(seen));
        }
    }

    /// Rows were put before the first one: the reader's place moves down by their height.
    pub fn prepended(self, count: usize) {
        let added = offset(&self.all_heights(), count);
        let Some(frame) = self.frame.get_untracked() else { return };
        let top = f64::from(frame.scroll_top()) + added;
        // The spacer must have grown before the browser accepts the new place.
        let seen = window(&self.all_heights(), top, f64::from(frame.client_height()));
        self.window.set(Some(seen));
        request_animation_frame(move || {
            if let Some(frame) = self.frame.try_get_untracked().flatten() {
                frame.set_scroll_top(top.round() as i32);
                self.last_top.set_value(top);
                self.update();
            }
        });
    }

    fn stick(self) {
        if self.pinned.get_value()
            && let Some(frame) = self.frame.get_untracked()
        {
            frame.set_scroll_top(frame.scroll_height());
            self.last_top.set_value(f64::from(frame.scroll_top()));
        }
    }

    fn all_heights(self) -> Vec<f64> {
        self.heights
            .with_value(|heights| self.chat.rows.with_untracked(|rows| rows.iter().map(|row| heights.of(row.id, || guess(row))).collect()))
    }

    fn resized(self, entries: &js_sys::Array) {
        let Some(frame) = self.frame.try_get_untracked().flatten() else {
            return;
        };
        let width = f64::from(frame.client_width());
        if (width - self.width.get_value()).abs() > 1.0 {
            // All texts wrap anew; rows that are not rendered are estimated again.
            self.width.set_value(width);
            self.heights.update_value(Heights::clear);
        }
        let top = f64::from(frame.scroll_top());
        let mut shift = 0.0;
        for entry in entries.iter().filter_map(|entry| entry.dyn_into::<ResizeObserverEntry>().ok()) {
            let Ok(element) = entry.target().dyn_into::<HtmlElement>() else {
                continue;
            };
            let Some(id) = element.get_attribute("data-message").and_then(|id| id.parse::<MessageId>().ok()) else {
                continue;
            };
            if !element.is_connected() {
                continue;
            }
            let height = element.get_bounding_client_rect().height();
            let Some(row) = self.chat.row(id) else { continue };
            let known = self.heights.with_value(|heights| heights.of(id, || guess(&row)));
            // A row above the reader's place changed: the place moves with it.
            if (known - height).abs() > 0.5 && f64::from(element.offset_top()) + known <= top {
                shift += height - known;
            }
            self.heights.update_value(|heights| heights.measured(id, height));
        }
        if self.pinned.get_value() {
            self.stick();
        } else if shift.abs() > 0.5 && self.jump.with_value(Option::is_none) {
            frame.set_scroll_top((top + shift).round() as i32);
            self.last_top.set_value(f64::from(frame.scroll_top()));
        }
        self.update();
    }
}

fn distance_to_end(frame: &HtmlElement) -> f64 {
    f64::from(frame.scroll_height() - frame.scroll_top() - frame.client_height())
}

fn guess(row: &Row) -> f64 {
    row.text.with_untracked(|text| estimate(row.role, text.len(), text.bytes().filter(|byte| *byte == b'\n').count()))
}

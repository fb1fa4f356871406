//! One polite live region for the whole page: what happens out of sight is said aloud.

use leptos::prelude::*;

/// Speaks to screen readers.
#[derive(Clone, Copy, Debug)]
pub struct Announcer(RwSignal<(u32, String)>);

impl Announcer {
    /// Says a text after whatever is being said now. Saying the same text twice works.
    pub fn say(&self, text: impl Into<String>) {
        let text = text.into();
        self.0.update(|(turn, current)| {
            *turn = turn.wrapping_add(1);
            *current = text;
        });
    }
}

/// The page's announcer.
#[must_use]
pub fn use_announcer() -> Announcer {
    use_context().unwrap_or_else(|| Announcer(RwSignal::default()))
}

pub(crate) fn provide_live_region() {
    provide_context(Announcer(RwSignal::default()));
}

/// Two elements take turns, because a region that gets the same text again stays silent.
#[component]
pub fn LiveRegion() -> impl IntoView {
    let Announcer(said) = use_announcer();
    let half = move |odd: bool| move || said.with(|(turn, text)| if (turn % 2 == 1) == odd { text.clone() } else { String::new() });
    view! {
        <div class="sr-only" aria-live="polite" aria-atomic="true">{half(false)}</div>
        <div class="sr-only" aria-live="polite" aria-atomic="true">{half(true)}</div>
    }
    .into_any()
}

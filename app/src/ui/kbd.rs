//! Keys, as printed on the keyboard.

use leptos::prelude::*;

/// One or more keys to be pressed together.
#[component]
pub fn Kbd(keys: Vec<String>) -> impl IntoView {
    view! { <span class="inline-flex gap-1">{keys.into_iter().map(|key| view! { <kbd class="kbd">{key}</kbd> }).collect_view()}</span> }
        .into_any()
}

//! The shape of what is being loaded.

use crate::i18n::{CommonTexts, use_texts};
use leptos::prelude::*;

/// Grey lines in the place of text. Screen readers hear that something is loading.
#[component]
pub fn SkeletonLines(
    /// How many lines.
    #[prop(default = 3)]
    lines: u8,
) -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let widths = ["w-11/12", "w-4/5", "w-full", "w-2/3"];
    view! {
        <div role="status" class="stack py-2">
            <span class="sr-only">{t.loading}</span>
            {(0..lines)
                .map(|line| view! { <span class=format!("skeleton h-4 {}", widths[usize::from(line) % widths.len()])></span> })
                .collect_view()}
        </div>
    }
    .into_any()
}

/// A grey block, e.g. in the place of a chart. `class` gives its size.
#[component]
pub fn SkeletonBlock(#[prop(into)] class: String) -> impl IntoView {
    view! { <span class=format!("skeleton {class}") aria-hidden="true"></span> }.into_any()
}

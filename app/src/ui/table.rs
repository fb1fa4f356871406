//! Tables.

use leptos::prelude::*;

/// A table that scrolls by itself when it is too wide. Children are `<thead>`, `<tbody>`, `<tfoot>`:
/// always with `<tbody>`, because the browser would add one and hydration would fail.
#[component]
pub fn Table(
    /// What the table is about; read to those who cannot see it.
    #[prop(into)]
    caption: String,
    children: Children,
) -> impl IntoView {
    let name = caption.clone();
    view! {
        // Reachable by keyboard, so that it can be scrolled without a mouse.
        <div class="table-wrap" role="region" aria-label=name tabindex="0">
            <table class="table">
                <caption class="sr-only">{caption}</caption>
                {children()}
            </table>
        </div>
    }
    .into_any()
}

//! What a page shows when there is nothing to show: why, and what to do about it.

use super::icon::{Glyph, Icon};
use leptos::prelude::*;

/// An empty state. Children are the way out (usually one button).
#[component]
pub fn EmptyState(
    icon: Glyph,
    #[prop(into)] title: String,
    #[prop(into)] text: String,
    #[prop(optional)] children: Option<Children>,
) -> impl IntoView {
    view! {
        <div class="empty">
            <span class="empty-icon">
                <Icon glyph=icon size=24/>
            </span>
            <h2 class="empty-title">{title}</h2>
            <p class="empty-text">{text}</p>
            {children.map(|children| view! { <div class="row mt-3 justify-center">{children()}</div> })}
        </div>
    }
    .into_any()
}

//! A word that tells a state.

use leptos::prelude::*;

/// What a badge or notice says by its colour; its text must say it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Neutral,
    Accent,
    Success,
    Warning,
    Danger,
}

/// A small label.
#[component]
pub fn Badge(#[prop(optional)] tone: Tone, children: Children) -> impl IntoView {
    let class = match tone {
        Tone::Neutral => "badge badge-neutral",
        Tone::Accent => "badge badge-accent",
        Tone::Success => "badge badge-success",
        Tone::Warning => "badge badge-warning",
        Tone::Danger => "badge badge-danger",
    };
    view! { <span class=class>{children()}</span> }.into_any()
}

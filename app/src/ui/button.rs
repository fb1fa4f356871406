//! Buttons. Listeners and further attributes go directly on the component:
//! `<Button look=Look::Primary on:click=move |_| save()>"Save"</Button>`.

use super::icon::{Glyph, Icon};
use leptos::prelude::*;

/// How much a button asks for attention. One `Primary` per view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// The one thing to do here.
    Primary,
    /// Everything else.
    #[default]
    Secondary,
    /// Without a frame, for tool bars.
    Quiet,
    /// Confirms something that cannot be taken back.
    Danger,
    /// Leads to something that cannot be taken back.
    DangerQuiet,
}

impl Look {
    fn class(self) -> &'static str {
        match self {
            Self::Primary => "btn btn-primary",
            Self::Secondary => "btn btn-secondary",
            Self::Quiet => "btn btn-quiet",
            Self::Danger => "btn btn-danger",
            Self::DangerQuiet => "btn btn-danger-quiet",
        }
    }
}

/// A button with a text, and an icon before it if wanted.
#[component]
pub fn Button(
    #[prop(optional)] look: Look,
    #[prop(optional)] icon: Option<Glyph>,
    /// Submits the form it is in.
    #[prop(optional)]
    submit: bool,
    /// As wide as its surroundings.
    #[prop(optional)]
    block: bool,
    #[prop(optional, into)] disabled: Signal<bool>,
    children: Children,
) -> impl IntoView {
    view! {
        <button type=if submit { "submit" } else { "button" } class=look.class() class:btn-block=block disabled=move || disabled.get()>
            {icon.map(|glyph| view! { <Icon glyph size=16/> })}
            {children()}
        </button>
    }
    .into_any()
}

/// A link that looks like a button. `download` makes the browser save what it leads to.
#[component]
pub fn LinkButton(
    #[prop(into)] href: Signal<String>,
    #[prop(optional)] look: Look,
    #[prop(optional)] icon: Option<Glyph>,
    #[prop(optional)] download: bool,
    children: Children,
) -> impl IntoView {
    view! {
        <a class=look.class() href=move || href.get() download=download.then_some("") rel=download.then_some("external")>
            {icon.map(|glyph| view! { <Icon glyph size=16/> })}
            {children()}
        </a>
    }
    .into_any()
}

/// A button that shows only an icon; `label` is its name for everybody who cannot see it, and its tooltip.
#[component]
pub fn IconButton(
    glyph: Glyph,
    #[prop(into)] label: Signal<String>,
    #[prop(optional, into)] disabled: Signal<bool>,
    /// For buttons that stay pressed.
    #[prop(optional, into)]
    pressed: Option<Signal<bool>>,
    /// Size of the icon in CSS pixels.
    #[prop(default = 18)]
    size: u8,
) -> impl IntoView {
    view! {
        <button
            type="button"
            class="icon-btn"
            aria-label=move || label.get()
            title=move || label.get()
            aria-pressed=move || pressed.map(|pressed| pressed.get().to_string())
            disabled=move || disabled.get()
        >
            <Icon glyph size/>
        </button>
    }
    .into_any()
}

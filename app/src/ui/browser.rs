//! The few things that are asked of the browser itself. On the server they do nothing.

use leptos::{ev, prelude::*};
use wasm_bindgen::JsCast;

/// Loads a page of this site anew, so that nothing of the current page's state survives: after
/// signing in or out and after changing the language.
pub fn load_page(address: &str) {
    if cfg!(feature = "hydrate")
        && let Err(error) = window().location().assign(address)
    {
        leptos::logging::error!("cannot open {address}: {error:?}");
    }
}

/// Loads the current page anew.
pub fn reload_page() {
    if cfg!(feature = "hydrate")
        && let Err(error) = window().location().reload()
    {
        leptos::logging::error!("cannot reload: {error:?}");
    }
}

/// `false` while the server renders and until the page is taken over. A submit before that is the browser's own: the
/// sign-in form has somewhere to go then, the others stay disabled.
#[must_use]
pub fn use_hydrated() -> ReadSignal<bool> {
    let (hydrated, set_hydrated) = signal(false);
    Effect::new(move |_| set_hydrated.set(true));
    hydrated
}

/// Whether the event happened where the person writes text.
#[must_use]
pub fn is_in_text_field(event: &ev::KeyboardEvent) -> bool {
    let Some(element) = event.target().and_then(|target| target.dyn_into::<web_sys::Element>().ok()) else {
        return false;
    };
    if let Some(input) = element.dyn_ref::<web_sys::HtmlInputElement>() {
        return !matches!(input.type_().as_str(), "checkbox" | "radio" | "button" | "submit" | "range" | "file");
    }
    element.tag_name() == "TEXTAREA"
        || element.tag_name() == "SELECT"
        || element.closest("[contenteditable=true]").is_ok_and(|found| found.is_some())
}

/// Moves the focus to an element; one that is gone cannot take it, which is fine.
pub fn focus(element: &web_sys::HtmlElement) {
    let _unused = element.focus();
}

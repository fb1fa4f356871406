//! Putting text on the clipboard.

use crate::{
    i18n::{chat::ChatTexts, use_texts},
    ui::{
        icon::{Glyph, Icon},
        live::{Announcer, use_announcer},
    },
};
use leptos::{prelude::*, task::spawn_local};
use std::time::Duration;

/// How long the button shows that it has copied.
const SHOWN: Duration = Duration::from_secs(2);

/// Copies `text` and says so.
pub fn copy(text: String, announcer: Announcer, said: &'static str, done: impl FnOnce() + 'static) {
    spawn_local(async move {
        let promise = window().navigator().clipboard().write_text(&text);
        match wasm_bindgen_futures::JsFuture::from(promise).await {
            Ok(_) => {
                announcer.say(said);
                done();
            }
            Err(error) => leptos::logging::warn!("the clipboard refused: {error:?}"),
        }
    });
}

/// A button that copies what `text` gives.
#[component]
pub fn CopyButton(label: &'static str, text: Callback<(), String>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let announcer = use_announcer();
    let copied = RwSignal::new(false);
    let press = move |_| {
        copy(text.run(()), announcer, t.copied, move || {
            copied.set(true);
            set_timeout(
                move || {
                    // The message may have left the page.
                    let _unused = copied.try_set(false);
                },
                SHOWN,
            );
        });
    };
    let icon = move || {
        if copied.get() {
            view! { <Icon glyph=Glyph::Check size=16/> }
        } else {
            view! { <Icon glyph=Glyph::Copy size=16/> }
        }
    };
    view! {
        <button type="button" class="icon-btn" aria-label=label title=label on:click=press>
            {icon}
        </button>
    }
    .into_any()
}

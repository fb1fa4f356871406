//! A chat without messages: a greeting and questions to begin with.

use super::composer::Composer;
use crate::{
    i18n::{chat::ChatTexts, fill, use_texts},
    ui::icon::{Glyph, Icon},
    viewer::use_viewer,
};
use leptos::prelude::*;

/// The empty chat.
#[component]
pub fn EmptyChat(composer: Composer) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let viewer = use_viewer();
    let greeting = move || {
        let name = viewer.me.with(|me| me.as_ref().map(|me| me.profile.name.clone()).unwrap_or_default());
        match name.split_whitespace().next() {
            Some(first) => fill(t.greeting_name, &[("name", first)]),
            None => t.greeting.to_owned(),
        }
    };
    let examples = [
        (Glyph::Pencil, t.example_letter_title, t.example_letter),
        (Glyph::File, t.example_summary_title, t.example_summary),
        (Glyph::Spark, t.example_explain_title, t.example_explain),
        (Glyph::Chart, t.example_code_title, t.example_code),
    ];
    let cards = examples
        .into_iter()
        .map(|(glyph, title, prompt)| {
            let take = move |_| {
                composer.text.set(prompt.to_owned());
                composer.focus();
            };
            view! {
                <li>
                    <button type="button" class="example" on:click=take>
                        <Icon glyph/>
                        <span>
                            <span class="block font-medium">{title}</span>
                            <span class="block text-sm text-faint">{prompt}</span>
                        </span>
                    </button>
                </li>
            }
        })
        .collect_view();
    view! {
        <div class="chat-empty">
            <h2 class="chat-greeting">{greeting}</h2>
            <p class="text-soft">{t.greeting_lead}</p>
            <ul class="examples" aria-label=t.examples>
                {cards}
            </ul>
        </div>
    }
    .into_any()
}

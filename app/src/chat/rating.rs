//! Thumbs up and down, with room for a word about why.

use super::{actions::Actions, rows::Row};
use crate::{
    i18n::{CommonTexts, chat::ChatTexts, use_texts},
    ui::{
        button::{Button, IconButton, Look},
        field::BareTextArea,
        icon::Glyph,
    },
};
use contract::chat::{Rating, RatingValue};
use leptos::prelude::*;

/// The two buttons; pressing one that is pressed takes the rating back.
#[component]
pub fn RatingButtons(row: Row, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let open = RwSignal::new(false);
    let meta = row.meta.clone();
    let value = Memo::new(move |_| meta.with(|meta| meta.rating.as_ref().map(|rating| rating.value)));
    let row = StoredValue::new(row);
    let press = move |pressed: RatingValue| {
        row.with_value(|row| {
            if value.get_untracked() == Some(pressed) {
                open.set(false);
                actions.rate(row, None);
            } else {
                open.set(true);
                let comment = row.meta.with_untracked(|meta| meta.rating.as_ref().map(|rating| rating.comment.clone()).unwrap_or_default());
                actions.rate(row, Some(Rating { value: pressed, comment }));
            }
        });
    };
    let pressed = move |wanted: RatingValue| Signal::derive(move || value.get() == Some(wanted));
    view! {
        <IconButton glyph=Glyph::ThumbUp label=t.good_answer size=16 pressed=pressed(RatingValue::Up) on:click=move |_| press(RatingValue::Up)/>
        <IconButton glyph=Glyph::ThumbDown label=t.bad_answer size=16 pressed=pressed(RatingValue::Down) on:click=move |_| press(RatingValue::Down)/>
        <Show when=move || open.get()>
            <Comment row actions open/>
        </Show>
    }
    .into_any()
}

#[component]
fn Comment(row: StoredValue<Row>, actions: Actions, open: RwSignal<bool>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let common = use_texts::<CommonTexts>();
    let rating = move || row.with_value(|row| row.meta.with_untracked(|meta| meta.rating.clone()));
    let comment = RwSignal::new(rating().map(|rating| rating.comment).unwrap_or_default());
    let save = move || {
        if let Some(rating) = rating() {
            row.with_value(|row| actions.rate(row, Some(Rating { comment: comment.get_untracked().trim().to_owned(), ..rating })));
        }
        open.set(false);
    };
    let on_key = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Escape" {
            event.prevent_default();
            open.set(false);
        }
    };
    view! {
        <div class="popover-line" role="group" aria-label=t.rating_comment on:keydown=on_key>
            <div class="popover">
                <BareTextArea value=comment attr:class="input" attr:rows="2" attr:maxlength="2000" attr:aria-label=t.rating_comment attr:placeholder=t.rating_placeholder/>
                <div class="row justify-end">
                    <Button look=Look::Quiet on:click=move |_| open.set(false)>
                        {common.close}
                    </Button>
                    <Button look=Look::Primary on:click=move |_| save()>
                        {common.save}
                    </Button>
                </div>
            </div>
        </div>
    }
    .into_any()
}

//! The line above the messages: title, temporary chat, export.

use super::actions::Actions;
use crate::{
    i18n::{chat::ChatTexts, use_texts},
    ui::{
        button::IconButton,
        icon::{Glyph, Icon},
        menu::{Menu, MenuLink, Placement},
    },
};
use leptos::prelude::*;

/// The chat's header.
#[component]
pub fn ChatHeader(actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let chat = actions.chat;
    let title = move || {
        if chat.temporary.get() {
            t.temporary_chat.to_owned()
        } else {
            chat.title.with(|title| if title.is_empty() { t.new_chat.to_owned() } else { title.clone() })
        }
    };
    // Whether a chat is stored is decided before its first question.
    let temporary: Signal<bool> = chat.temporary.into();
    let may_toggle = move || chat.id.get().is_none() && chat.is_empty();
    let export = move || {
        chat.id.get().map(|id| {
            let trigger = || view! { <Icon glyph=Glyph::Download/> };
            view! {
                <Menu label=t.export placement=Placement::BelowEnd trigger>
                    <MenuLink label=t.export_markdown icon=Glyph::File download=true href=format!("/ui/export/conversations/{id}/markdown")/>
                    <MenuLink label=t.export_json icon=Glyph::File download=true href=format!("/ui/export/conversations/{id}/json")/>
                </Menu>
            }
        })
    };
    view! {
        <div class="chat-header">
            <h1 class="chat-title">{title}</h1>
            <Show when=may_toggle>
                <IconButton
                    glyph=Glyph::Temporary
                    label=t.temporary_chat
                    pressed=temporary
                    on:click=move |_| chat.temporary.update(|on| *on = !*on)
                />
            </Show>
            {export}
        </div>
    }
    .into_any()
}

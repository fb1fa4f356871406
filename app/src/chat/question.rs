//! A question: its text, its attachments, its branches, and editing in place.

use super::{actions::Actions, api, branches::BranchSwitcher, copy::CopyButton, rows::Row, temporary};
use crate::{
    i18n::{CommonTexts, chat::ChatTexts, use_texts},
    ui::{
        browser::focus,
        button::{Button, IconButton, Look},
        dialog::Dialog,
        field::BareTextArea,
        icon::{Glyph, Icon},
    },
};
use contract::{
    chat::{Attachment, NewAttachment},
    ids::MessageId,
};
use leptos::{html, prelude::*, task::spawn_local};

/// One question.
#[component]
pub fn Question(row: Row, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let editing = RwSignal::new(false);
    let text = row.text.clone();
    let attachments = row.meta.with_untracked(|meta| meta.attachments.clone());
    let body = {
        let row = row.clone();
        move || {
            let row = row.clone();
            if editing.get() {
                view! { <Editor row actions editing/> }.into_any()
            } else {
                let text = row.text.clone();
                view! { <div class="question-text">{move || text.get()}</div> }.into_any()
            }
        }
    };
    view! {
        <article class="question" aria-label=t.question>
            <Attachments message=row.id attachments actions/>
            {body}
            <div class="message-tools" class:hidden=move || editing.get()>
                <BranchSwitcher row=row.clone() actions/>
                <IconButton
                    glyph=Glyph::Pencil
                    label=t.edit
                    size=16
                    disabled=Signal::derive(move || actions.chat.running.get().is_some() || actions.chat.busy.get())
                    on:click=move |_| editing.set(true)
                />
                <CopyButton label=t.copy_question text=Callback::new(move |()| text.get_untracked())/>
            </div>
        </article>
    }
    .into_any()
}

#[component]
fn Editor(row: Row, actions: Actions, editing: RwSignal<bool>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let common = use_texts::<CommonTexts>();
    let value = RwSignal::new(row.text.get_untracked());
    let node = NodeRef::<html::Textarea>::new();
    Effect::new(move |_| {
        if let Some(node) = node.get() {
            focus(&node);
        }
    });
    let row = StoredValue::new(row);
    let save = move || {
        let content = value.get_untracked();
        if content.trim().is_empty() || actions.chat.busy.get_untracked() {
            return;
        }
        row.with_value(|row| actions.edit(row, content, move || editing.set(false)));
    };
    let on_key = move |event: leptos::ev::KeyboardEvent| match event.key().as_str() {
        "Enter" if !event.shift_key() && !event.is_composing() => {
            event.prevent_default();
            save();
        }
        "Escape" => {
            event.prevent_default();
            editing.set(false);
        }
        _ => {}
    };
    view! {
        <div class="question-editor">
            <BareTextArea value node_ref=node attr:class="input" attr:rows="3" attr:aria-label=t.edit_question on:keydown=on_key/>
            <p class="field-hint">{t.edit_hint}</p>
            <div class="row justify-end">
                <Button look=Look::Quiet on:click=move |_| editing.set(false)>
                    {common.cancel}
                </Button>
                <Button look=Look::Primary disabled=Signal::derive(move || actions.chat.busy.get()) on:click=move |_| save()>
                    {t.send}
                </Button>
            </div>
        </div>
    }
    .into_any()
}

#[component]
fn Attachments(message: MessageId, attachments: Vec<Attachment>, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    if attachments.is_empty() {
        return ().into_any();
    }
    let open = RwSignal::new(false);
    let shown = RwSignal::new(None::<NewAttachment>);
    let read = move |index: usize, attachment: Attachment| {
        if let Some(text) = temporary::attachment(message, index) {
            shown.set(Some(text));
            open.set(true);
            return;
        }
        spawn_local(async move {
            match api::read_attachment(attachment.id).await {
                Ok(text) => {
                    shown.set(Some(text));
                    open.set(true);
                }
                Err(error) => actions.fail(error),
            }
        });
    };
    let chips = attachments
        .into_iter()
        .enumerate()
        .map(|(index, attachment)| {
            let label = format!("{} ({})", attachment.name, super::attachments::size(attachment.bytes));
            view! {
                <li>
                    <button type="button" class="chip" on:click=move |_| read(index, attachment.clone())>
                        <Icon glyph=Glyph::File size=16/>
                        <span class="truncate">{label}</span>
                    </button>
                </li>
            }
        })
        .collect_view();
    view! {
        <ul class="chips" aria-label=t.attachments>
            {chips}
        </ul>
        <Dialog open title=Signal::derive(move || shown.with(|text| text.as_ref().map(|text| text.name.clone()).unwrap_or_default())) wide=true>
            <pre class="attachment-text" tabindex="0">{move || shown.with(|text| text.as_ref().map(|text| text.content.clone()))}</pre>
        </Dialog>
    }
    .into_any()
}

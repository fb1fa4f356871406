//! Where questions are written: text, attachments, send and stop.

use super::{
    actions::Actions,
    attachments::{self, Refusal, size},
    drafts, message_list,
    model_picker::ModelPicker,
    settings_panel::SettingsButton,
};
use crate::{
    i18n::{chat::ChatTexts, fill, use_texts},
    ui::{
        browser::focus,
        button::IconButton,
        field::BareTextArea,
        icon::{Glyph, Icon},
        problem::ProblemNotice,
    },
};
use contract::chat::{ATTACHMENTS_MAX, MESSAGE_MAX_BYTES, NewAttachment, PASTE_AS_ATTACHMENT_BYTES};
use leptos::{ev, html, prelude::*, task::spawn_local};
use wasm_bindgen::JsCast;

/// From this many bytes below the limit on, the rest is shown.
const HINT_BYTES: usize = 4 * 1024;

/// The composer's state; a handle for the page's shortcuts and example prompts.
#[derive(Clone, Copy)]
pub struct Composer {
    /// What was typed.
    pub text: RwSignal<String>,
    /// What goes with it.
    pub attachments: RwSignal<Vec<NewAttachment>>,
    /// Why the last attachment was refused.
    refusal: RwSignal<Option<(String, Refusal)>>,
    node: NodeRef<html::Textarea>,
}

impl Composer {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: RwSignal::new(String::new()),
            attachments: RwSignal::new(Vec::new()),
            refusal: RwSignal::new(None),
            node: NodeRef::new(),
        }
    }

    /// Puts the cursor into the text.
    pub fn focus(&self) {
        if let Some(node) = self.node.get_untracked() {
            focus(&node);
        }
    }

    fn attach(&self, name: &str, attachment: Result<NewAttachment, Refusal>) {
        let added = attachment.and_then(|attachment| {
            let mut result = Ok(());
            self.attachments.update(|list| result = attachments::add(list, attachment));
            result
        });
        self.refusal.set(added.err().map(|refusal| (name.to_owned(), refusal)));
    }

    fn attach_files(self, files: &web_sys::FileList) {
        let files: Vec<web_sys::File> = (0..files.length()).filter_map(|ix| files.item(ix)).collect();
        spawn_local(async move {
            for file in files {
                let read = attachments::read(&file).await;
                self.attach(&file.name(), read);
            }
        });
    }

    fn can_send(&self) -> bool {
        self.text.with(|text| text.len() <= MESSAGE_MAX_BYTES && !text.trim().is_empty())
    }

    /// Sends what is there; it stays in the composer until the server has it.
    pub fn send(self, actions: Actions) {
        let chat = actions.chat;
        if !untrack(|| self.can_send()) || chat.running.get_untracked().is_some() || chat.busy.get_untracked() {
            return;
        }
        let (text, attached) = (self.text.get_untracked(), self.attachments.get_untracked());
        let draft_of = chat.id.get_untracked();
        let sent_text = text.clone();
        actions.send(text, attached, move || {
            drafts::save(draft_of, "");
            // Typed while the question was under way: that is the next one.
            if self.text.with_untracked(|text| *text == sent_text) {
                self.text.set(String::new());
            }
            self.attachments.set(Vec::new());
            self.refusal.set(None);
        });
    }
}

impl Default for Composer {
    fn default() -> Self {
        Self::new()
    }
}

/// The composer.
#[component]
pub fn ComposerForm(composer: Composer, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let chat = actions.chat;
    keep_draft(composer, actions);
    grow(composer);
    let dragging = RwSignal::new(false);
    let on_drop = move |event: ev::DragEvent| {
        dragging.set(false);
        if let Some(files) = event.data_transfer().and_then(|data| data.files()).filter(|files| files.length() > 0) {
            event.prevent_default();
            composer.attach_files(&files);
        }
    };
    let on_drag = move |event: ev::DragEvent| {
        event.prevent_default();
        dragging.set(true);
    };
    let failure = move || {
        chat.failure.get().map(|error| {
            let can_retry = composer.can_send();
            let retry = can_retry.then(|| Callback::new(move |()| composer.send(actions)));
            match retry {
                Some(retry) => view! { <ProblemNotice error retry/> }.into_any(),
                None => view! { <ProblemNotice error/> }.into_any(),
            }
        })
    };
    view! {
        <form
            class="composer"
            class:composer-drop=move || dragging.get()
            on:submit=move |event| {
                event.prevent_default();
                composer.send(actions);
            }
            on:dragover=on_drag
            on:dragleave=move |_| dragging.set(false)
            on:drop=on_drop
        >
            {failure}
            <div class="composer-box">
                <Chips composer/>
                <BareTextArea
                    value=composer.text
                    node_ref=composer.node
                    attr:class="composer-text"
                    attr:rows="1"
                    attr:aria-label=t.message
                    attr:placeholder=t.message_placeholder
                    attr:aria-describedby="composer-hint"
                    attr:enterkeyhint="send"
                    on:input=move |_| message_list::prefetch()
                    on:keydown=move |event| on_key(&event, composer, actions)
                    on:paste=move |event| on_paste(&event, composer, t)
                />
                <div class="composer-bar">
                    <FilePicker composer/>
                    <SettingsButton actions/>
                    <ModelPicker actions/>
                    <span class="flex-1"></span>
                    <SendOrStop composer actions/>
                </div>
            </div>
            <Hint composer/>
        </form>
    }
    .into_any()
}

/// One button for both, so that neither pointer nor focus has to move.
#[component]
fn SendOrStop(composer: Composer, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let chat = actions.chat;
    let running = Memo::new(move |_| chat.running.with(Option::is_some));
    let label = move || if running.get() { t.stop } else { t.send };
    let locked = move || !running.get() && (!composer.can_send() || chat.busy.get() || chat.loading.get());
    let press = move |_| {
        if running.get_untracked() {
            actions.stop();
        } else {
            composer.send(actions);
        }
    };
    let icon = move || {
        if running.get() {
            view! { <Icon glyph=Glyph::Stop/> }
        } else {
            view! { <Icon glyph=Glyph::ArrowUp/> }
        }
    };
    view! {
        <button type="button" class="composer-send" aria-label=label title=label disabled=locked on:click=press>
            {icon}
        </button>
    }
    .into_any()
}

#[component]
fn FilePicker(composer: Composer) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let input = NodeRef::<html::Input>::new();
    let open = move |_| {
        if let Some(input) = input.get_untracked() {
            input.click();
        }
    };
    let chosen = move |_| {
        let Some(input) = input.get_untracked() else { return };
        if let Some(files) = input.files() {
            composer.attach_files(&files);
        }
        // The same file may be chosen again after it was removed.
        input.set_value("");
    };
    view! {
        <input type="file" multiple=true class="hidden" tabindex="-1" aria-hidden="true" node_ref=input on:change=chosen/>
        <IconButton
            glyph=Glyph::Attach
            label=t.attach
            disabled=Signal::derive(move || composer.attachments.with(|list| list.len() >= ATTACHMENTS_MAX))
            on:click=open
        />
    }
    .into_any()
}

#[component]
fn Chips(composer: Composer) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let refused = move || {
        composer.refusal.get().map(|(name, refusal)| view! { <p class="field-error" role="alert">{refusal_text(t, &name, refusal)}</p> })
    };
    let remove = move |name: &str| composer.attachments.update(|list| list.retain(|attachment| attachment.name != name));
    view! {
        {refused}
        <Show when=move || composer.attachments.with(|list| !list.is_empty())>
            <ul class="chips" aria-label=t.attachments>
                <For each=move || composer.attachments.get() key=|attachment| attachment.name.clone() let(attachment)>
                    <li class="chip">
                        <Icon glyph=Glyph::File size=16/>
                        <span class="truncate">{attachment.name.clone()}</span>
                        <span class="text-faint">{size(u32::try_from(attachment.content.len()).unwrap_or(u32::MAX))}</span>
                        <IconButton
                            glyph=Glyph::Close
                            size=14
                            label=fill(t.remove_attachment, &[("name", &attachment.name)])
                            on:click=move |_| remove(&attachment.name)
                        />
                    </li>
                </For>
            </ul>
        </Show>
    }
    .into_any()
}

fn refusal_text(t: &ChatTexts, name: &str, refusal: Refusal) -> String {
    let text = match refusal {
        Refusal::TooLarge => t.attachment_too_large,
        Refusal::TooMany => t.attachment_too_many,
        Refusal::Empty => t.attachment_empty,
        Refusal::NotText => t.attachment_not_text,
        Refusal::Unreadable => t.attachment_unreadable,
    };
    fill(text, &[("name", name), ("n", &ATTACHMENTS_MAX.to_string())])
}

/// Keys, or how much room is left when it gets tight.
#[component]
fn Hint(composer: Composer) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let used = Memo::new(move |_| composer.text.with(String::len));
    let tight = move || used.get() + HINT_BYTES > MESSAGE_MAX_BYTES;
    let over = move || used.get() > MESSAGE_MAX_BYTES;
    let text = move || {
        if over() {
            t.message_too_long.to_owned()
        } else if tight() {
            fill(t.bytes_left, &[("n", &(MESSAGE_MAX_BYTES - used.get()).to_string())])
        } else {
            t.composer_hint.to_owned()
        }
    };
    view! {
        <p id="composer-hint" class="composer-hint" class:text-danger=over role=move || tight().then_some("status")>
            {text}
        </p>
    }
    .into_any()
}

fn on_key(event: &ev::KeyboardEvent, composer: Composer, actions: Actions) {
    // 229: some input methods report the composition's last Enter only so.
    if event.key() == "Enter" && !event.shift_key() && !event.is_composing() && event.key_code() != 229 {
        event.prevent_default();
        composer.send(actions);
    }
}

/// A long paste becomes an attachment before the text field has to lay it out.
fn on_paste(event: &ev::ClipboardEvent, composer: Composer, t: &'static ChatTexts) {
    let Some(data) = event.clipboard_data() else { return };
    if let Some(files) = data.files().filter(|files| files.length() > 0) {
        event.prevent_default();
        composer.attach_files(&files);
        return;
    }
    let Ok(text) = data.get_data("text/plain") else { return };
    if text.len() > PASTE_AS_ATTACHMENT_BYTES {
        event.prevent_default();
        let name = format!("{}.txt", t.pasted_text);
        composer.attach(&name.clone(), attachments::checked(name, text));
    }
}

/// Loads the chat's draft when the chat changes and keeps it while it is written.
fn keep_draft(composer: Composer, actions: Actions) {
    let chat = actions.chat;
    Effect::new(move |before: Option<Option<_>>| {
        let id = chat.id.get();
        let kept = composer.text.get_untracked();
        match before {
            // A chat that just got its id keeps what is being typed.
            Some(None) if !kept.is_empty() && untrack(|| !chat.is_empty()) => {
                drafts::save(None, "");
                drafts::save(id, &kept);
            }
            Some(before) if before == id => {}
            // Typed before the page was taken over.
            None if !kept.is_empty() => {}
            _ => {
                composer.text.set(drafts::load(id));
                composer.attachments.set(Vec::new());
            }
        }
        id
    });
    Effect::new(move |first: Option<()>| {
        let text = composer.text.get();
        // Temporary chats leave no trace in the browser either.
        if first.is_some() && !chat.temporary.get_untracked() {
            drafts::save(chat.id.get_untracked(), &text);
        }
    });
}

/// The field is as high as its text, up to the limit that the style sheet sets.
fn grow(composer: Composer) {
    Effect::new(move |_| {
        let empty = composer.text.with(String::is_empty);
        let Some(node) = composer.node.get() else { return };
        // After the text field has taken over the value.
        request_animation_frame(move || {
            let style = node.unchecked_ref::<web_sys::HtmlElement>().style();
            let set = |value: &str| {
                if style.set_property("height", value).is_err() {
                    leptos::logging::warn!("the text field cannot grow");
                }
            };
            set("auto");
            if !empty {
                set(&format!("{}px", node.scroll_height()));
            }
        });
    });
}

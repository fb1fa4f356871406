//! Short messages at the bottom of the page, with *Undo* where something can be taken back.

use super::{button::IconButton, icon::Glyph};
use crate::{
    UiError,
    i18n::{CommonTexts, problem_text, use_language, use_texts},
};
use contract::account::Language;
use leptos::prelude::*;
use std::time::Duration;

/// How long a message stays, unless the pointer or the focus is on it.
const STAYS: Duration = Duration::from_secs(8);

#[derive(Clone, Debug)]
struct Toast {
    id: u32,
    text: String,
    danger: bool,
    action: Option<(String, Callback<()>)>,
}

/// Shows messages.
#[derive(Clone, Copy, Debug)]
pub struct Toasts {
    list: RwSignal<Vec<Toast>>,
    next: StoredValue<u32>,
    /// The pointer or the focus is on the messages: none disappears.
    held: RwSignal<bool>,
    language: Language,
}

impl Toasts {
    /// Tells that something is done.
    pub fn show(&self, text: impl Into<String>) {
        self.push(text.into(), false, None);
    }

    /// Tells that something is done, and offers to take it back.
    pub fn show_with_undo(&self, text: impl Into<String>, undo: impl Into<Callback<()>>) {
        let label = <CommonTexts as crate::i18n::Texts>::of(self.language).undo;
        self.push(text.into(), false, Some((label.to_owned(), undo.into())));
    }

    /// Tells what went wrong, in the reader's language.
    pub fn show_problem(&self, error: &UiError) {
        self.push(problem_text(self.language, error.problem()), true, None);
    }

    fn push(&self, text: String, danger: bool, action: Option<(String, Callback<()>)>) {
        let id = self.next.try_update_value(|next| {
            *next += 1;
            *next
        });
        let Some(id) = id else { return };
        self.list.update(|list| list.push(Toast { id, text, danger, action }));
        self.remove_later(id);
    }

    fn remove_later(self, id: u32) {
        set_timeout(
            move || {
                if self.held.try_get_untracked().unwrap_or(false) {
                    self.remove_later(id);
                } else {
                    self.remove(id);
                }
            },
            STAYS,
        );
    }

    fn remove(self, id: u32) {
        // The page may have gone in the meantime.
        let _unused = self.list.try_update(|list| list.retain(|toast| toast.id != id));
    }
}

/// The page's messages.
#[must_use]
pub fn use_toasts() -> Toasts {
    use_context().unwrap_or_else(new_toasts)
}

fn new_toasts() -> Toasts {
    Toasts { list: RwSignal::default(), next: StoredValue::new(0), held: RwSignal::new(false), language: use_language() }
}

pub(crate) fn provide_toasts() {
    provide_context(new_toasts());
}

/// The place where messages appear: a live region, so that they are also heard.
#[component]
pub fn Toaster() -> impl IntoView {
    let toasts = use_toasts();
    let t = use_texts::<CommonTexts>();
    view! {
        <section class="toasts" aria-label=t.notifications>
            <div
                role="status"
                aria-live="polite"
                class="flex w-full flex-col items-center gap-2"
                on:mouseenter=move |_| toasts.held.set(true)
                on:mouseleave=move |_| toasts.held.set(false)
                on:focusin=move |_| toasts.held.set(true)
                on:focusout=move |_| toasts.held.set(false)
            >
                <For each=move || toasts.list.get() key=|toast| toast.id let:toast>
                    <ToastView toast/>
                </For>
            </div>
        </section>
    }
    .into_any()
}

#[component]
fn ToastView(toast: Toast) -> impl IntoView {
    let toasts = use_toasts();
    let t = use_texts::<CommonTexts>();
    let Toast { id, text, danger, action } = toast;
    let action = action.map(|(label, run)| {
        view! {
            <button
                type="button"
                class="toast-action"
                on:click=move |_| {
                    toasts.remove(id);
                    toasts.held.set(false);
                    run.run(());
                }
            >
                {label}
            </button>
        }
    });
    view! {
        <div class="toast" class:toast-danger=danger>
            <span class="py-1">{text}</span>
            {action}
            <IconButton
                glyph=Glyph::Close
                label=t.dismiss
                size=16
                on:click=move |_| {
                    toasts.remove(id);
                    toasts.held.set(false);
                }
            />
        </div>
    }
    .into_any()
}

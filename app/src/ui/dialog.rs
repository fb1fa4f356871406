//! Modal dialogs on the browser's own `<dialog>`: it traps the focus, closes on Escape and gives the
//! focus back to where it was.

use super::{button::IconButton, icon::Glyph};
use crate::i18n::{CommonTexts, use_texts};
use leptos::{ev, html, prelude::*};
use wasm_bindgen::JsCast;

/// A modal dialog, shown while `open` is true. Its content exists only while it is open.
#[component]
pub fn Dialog(
    open: RwSignal<bool>,
    #[prop(into)] title: Signal<String>,
    /// Wider than usual, for lists and tables.
    #[prop(optional)]
    wide: bool,
    children: ChildrenFn,
) -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let open = open.get();
        let Some(dialog) = dialog.get() else { return };
        if open && !dialog.open() {
            if let Err(error) = dialog.show_modal() {
                leptos::logging::error!("the dialog does not open: {error:?}");
            }
        } else if !open && dialog.open() {
            dialog.close();
        }
    });
    // The backdrop belongs to the dialog element: a click on the element itself is one beside the content.
    let close_from_backdrop = move |event: ev::MouseEvent| {
        let on_backdrop = event.target().and_then(|target| target.dyn_into::<web_sys::HtmlDialogElement>().ok()).is_some();
        if on_backdrop {
            open.set(false);
        }
    };
    view! {
        <dialog
            node_ref=dialog
            class="dialog"
            class:dialog-wide=wide
            aria-label=move || title.get()
            on:close=move |_| open.set(false)
            on:click=close_from_backdrop
        >
            <Show when=move || open.get()>
                <div class="dialog-head">
                    <h2 class="dialog-title">{move || title.get()}</h2>
                    <IconButton glyph=Glyph::Close label=t.close on:click=move |_| open.set(false)/>
                </div>
                <div class="dialog-body">{children()}</div>
            </Show>
        </dialog>
    }
    .into_any()
}

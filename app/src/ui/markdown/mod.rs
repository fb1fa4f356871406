//! Markdown that models and people wrote, as safe HTML.
//!
//! [`Markdown`] is the only way such text reaches a page as HTML: no other module sets `inner_html`.
//! Raw HTML in the text is shown as text, links lead outside by known schemes only, nothing is
//! loaded from elsewhere. While a text grows, finished blocks stay untouched ([`Blocks`]).

mod blocks;
mod delimiters;
mod escape;
mod highlight;
mod math;
mod render;
#[cfg(test)]
mod tests;
mod typesetter;

pub use blocks::{Block, Blocks};
pub use render::Labels;

use crate::i18n::use_texts;
use leptos::{ev::MouseEvent, prelude::*};
use std::sync::Arc;
use wasm_bindgen::JsCast;

crate::texts! {
    /// Words within rendered Markdown.
    pub struct MarkdownTexts {
        copy: "Copy" | "Kopieren",
        copied: "Copied" | "Kopiert",
        image: "Image" | "Bild",
    }
}

/// How long a copy button says that it has copied, in milliseconds.
const COPIED_MS: u64 = 2_000;

/// One block on the page: its HTML changes only while it is among the last ones.
#[derive(Clone)]
struct Slot {
    number: usize,
    html: ArcRwSignal<Arc<str>>,
}

/// Rendered Markdown. Follows `text` as it grows and touches only what changed.
#[component]
pub fn Markdown(
    /// The source.
    #[prop(into)]
    text: Signal<String>,
) -> impl IntoView {
    let t = use_texts::<MarkdownTexts>();
    let labels = Labels { copy: t.copy, image: t.image };
    let blocks = StoredValue::new(Blocks::new(labels));
    let slots = RwSignal::new(Vec::<Slot>::new());
    let follow = move || {
        blocks.update_value(|blocks| {
            text.with(|text| blocks.update(text));
            apply(blocks.blocks(), slots);
        });
    };
    // At once for the server and for the first paint, then as the text changes.
    untrack(follow);
    Effect::new(follow);
    Effect::new(move |before: Option<bool>| {
        let arrived = typesetter::arrived();
        if arrived && before == Some(false) && blocks.with_value(has_formula_sources) {
            blocks.set_value(Blocks::new(labels));
            untrack(follow);
        }
        arrived
    });
    view! {
        <div class="prose-kontor" on:click=move |event| copy_code(&event, t)>
            <For each=move || slots.get() key=|slot| slot.number let(slot)>
                <div class="prose-block" inner_html=move || slot.html.get().to_string()></div>
            </For>
        </div>
    }
    .into_any()
}

fn has_formula_sources(blocks: &Blocks) -> bool {
    blocks.blocks().iter().any(|block| block.html.contains(math::SOURCE_CLASS))
}

/// Brings the slots in line with the blocks; only signals whose HTML differs are set.
fn apply(blocks: &[Block], slots: RwSignal<Vec<Slot>>) {
    let present = slots.with_untracked(|slots| {
        for (slot, block) in slots.iter().zip(blocks) {
            if !slot.html.with_untracked(|html| Arc::ptr_eq(html, &block.html) || **html == *block.html) {
                slot.html.set(block.html.clone());
            }
        }
        slots.len()
    });
    if present != blocks.len() {
        slots.update(|slots| {
            slots.truncate(blocks.len());
            for (number, block) in blocks.iter().enumerate().skip(slots.len()) {
                slots.push(Slot { number, html: ArcRwSignal::new(block.html.clone()) });
            }
        });
    }
}

/// One listener for all copy buttons of a text: the buttons are plain HTML.
fn copy_code(event: &MouseEvent, t: &'static MarkdownTexts) {
    let Some(button) = event.target().and_then(|target| target.dyn_into::<web_sys::Element>().ok()) else {
        return;
    };
    let Ok(Some(button)) = button.closest("[data-md-copy]") else {
        return;
    };
    let Ok(Some(code)) = button.closest(".md-code").map(|frame| frame.and_then(|frame| frame.query_selector("pre").ok().flatten())) else {
        return;
    };
    let text = code.text_content().unwrap_or_default();
    leptos::task::spawn_local(async move {
        let clipboard = window().navigator().clipboard();
        if wasm_bindgen_futures::JsFuture::from(clipboard.write_text(&text)).await.is_ok() {
            button.set_text_content(Some(t.copied));
            set_timeout(move || button.set_text_content(Some(t.copy)), std::time::Duration::from_millis(COPIED_MS));
        }
    });
}

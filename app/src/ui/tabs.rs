//! Tabs whose panels have their own address.

use super::browser::focus;
use leptos::{ev, html, prelude::*};
use wasm_bindgen::JsCast;

/// One tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tab {
    /// Part of the tab's and panel's element ids.
    pub id: &'static str,
    pub href: &'static str,
    pub label: &'static str,
}

/// A tab list and the panel of the selected tab. Arrow keys, Home and End move between the tabs,
/// Enter opens one (the tabs are links).
#[component]
pub fn Tabs(
    #[prop(into)] label: String,
    tabs: Vec<Tab>,
    #[prop(into)] selected: Signal<Option<&'static str>>,
    children: Children,
) -> impl IntoView {
    let list = NodeRef::<html::Div>::new();
    let first = tabs.first().map(|tab| tab.id);
    let items = tabs
        .iter()
        .map(|tab| {
            let Tab { id, href, label } = *tab;
            // Exactly one tab is in the tab order, also when none is selected.
            let in_order = move || selected.get().or(first) == Some(id);
            view! {
                <a
                    role="tab"
                    id=format!("tab-{id}")
                    class="tab"
                    href=href
                    aria-selected=move || (selected.get() == Some(id)).to_string()
                    aria-controls="tab-panel"
                    tabindex=move || if in_order() { "0" } else { "-1" }
                >
                    {label}
                </a>
            }
        })
        .collect_view();
    view! {
        <div class="tabs" role="tablist" aria-label=label node_ref=list on:keydown=move |event| move_focus(&event, list)>
            {items}
        </div>
        <div role="tabpanel" id="tab-panel" aria-labelledby=move || selected.get().or(first).map(|id| format!("tab-{id}"))>
            {children()}
        </div>
    }
    .into_any()
}

fn move_focus(event: &ev::KeyboardEvent, list: NodeRef<html::Div>) {
    let Some(tabs) = list.get_untracked().and_then(|list| list.query_selector_all("[role=tab]").ok()) else {
        return;
    };
    let active = document().active_element();
    let current = (0..tabs.length()).find(|index| tabs.item(*index).as_ref() == active.as_ref().map(AsRef::as_ref)).unwrap_or(0);
    let last = tabs.length().saturating_sub(1);
    let next = match event.key().as_str() {
        "ArrowRight" => {
            if current == last {
                0
            } else {
                current + 1
            }
        }
        "ArrowLeft" => {
            if current == 0 {
                last
            } else {
                current - 1
            }
        }
        "Home" => 0,
        "End" => last,
        _ => return,
    };
    event.prevent_default();
    if let Some(tab) = tabs.item(next).and_then(|node| node.dyn_into::<web_sys::HtmlElement>().ok()) {
        focus(&tab);
    }
}

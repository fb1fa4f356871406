//! One conversation in the side bar and what can be done with it.

use super::{
    api,
    list::{Conversations, Item},
};
use crate::{
    i18n::{chat::ChatTexts, fill, use_texts},
    ui::{
        browser::focus,
        icon::{Glyph, Icon},
        menu::{Menu, MenuItem, MenuLink, MenuSeparator, Placement},
        toast::{Toasts, use_toasts},
    },
};
use contract::{chat::ConversationChange, ids::ConversationId};
use leptos::{html, prelude::*, task::spawn_local};
use leptos_router::hooks::{use_location, use_navigate};

/// A row: link, running sign, menu; a text field while it is renamed.
#[component]
pub fn SidebarRow(item: Item, list: Conversations) -> impl IntoView {
    let id = item.id;
    let item = StoredValue::new(item);
    let renaming = move || list.renaming.get() == Some(id);
    view! {
        <li class="sidebar-row">
            {move || {
                let item = item.get_value();
                if renaming() { view! { <Rename item list/> }.into_any() } else { view! { <Entry item list/> }.into_any() }
            }}
        </li>
    }
    .into_any()
}

#[component]
fn Entry(item: Item, list: Conversations) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let id = item.id;
    let href = format!("/c/{id}");
    let path = use_location().pathname;
    let current = {
        let href = href.clone();
        move || path.with(|path| *path == href).then_some("page")
    };
    let summary = item.summary;
    let title = {
        let summary = summary.clone();
        Signal::derive(move || summary.with(|summary| if summary.title.is_empty() { t.untitled.to_owned() } else { summary.title.clone() }))
    };
    let running = {
        let summary = summary.clone();
        move || summary.with(|summary| summary.running)
    };
    let pinned = Signal::derive(move || summary.with(|summary| summary.pinned));
    view! {
        <a class="sidebar-link" href=href aria-current=current>
            <span class="truncate">{move || title.get()}</span>
            <Show when=running>
                <span class="sidebar-running">
                    <span class="sr-only">{t.answering}</span>
                </span>
            </Show>
        </a>
        <RowMenu id list title pinned/>
    }
    .into_any()
}

#[component]
fn RowMenu(id: ConversationId, list: Conversations, title: Signal<String>, pinned: Signal<bool>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let toasts = use_toasts();
    let path = use_location().pathname;
    let navigate = use_navigate();
    let navigate = Callback::new(move |address: &'static str| navigate(address, leptos_router::NavigateOptions::default()));
    let archived: Signal<bool> = list.archived.into();
    let change = move |change: ConversationChange| {
        spawn_local(async move {
            if let Err(error) = list.save(id, change).await {
                toasts.show_problem(&error);
            }
        });
    };
    let pin =
        Callback::new(move |()| change(ConversationChange { pinned: Some(!pinned.get_untracked()), ..ConversationChange::default() }));
    let archive =
        Callback::new(move |()| change(ConversationChange { archived: Some(!archived.get_untracked()), ..ConversationChange::default() }));
    let delete = Callback::new(move |()| {
        if path.with_untracked(|path| *path == format!("/c/{id}")) {
            navigate.run("/");
        }
        remove(id, list, toasts, t);
    });
    let pin_label = Signal::derive(move || if pinned.get() { t.unpin } else { t.pin }.to_owned());
    let archive_label = Signal::derive(move || if archived.get() { t.unarchive } else { t.archive }.to_owned());
    let trigger = || view! { <Icon glyph=Glyph::More size=16/> };
    view! {
        <Menu label=Signal::derive(move || fill(t.actions_for, &[("title", &title.get())])) placement=Placement::BelowEnd trigger>
            <MenuItem label=t.rename icon=Glyph::Pencil on_select=Callback::new(move |()| list.renaming.set(Some(id)))/>
            <MenuItem label=pin_label icon=Glyph::Pin on_select=pin/>
            <MenuItem label=archive_label icon=Glyph::Archive on_select=archive/>
            <MenuLink label=t.export_markdown icon=Glyph::Download download=true href=format!("/ui/export/conversations/{id}/markdown")/>
            <MenuLink label=t.export_json icon=Glyph::Download download=true href=format!("/ui/export/conversations/{id}/json")/>
            <MenuSeparator/>
            <MenuItem label=t.delete icon=Glyph::Trash danger=true on_select=delete/>
        </Menu>
    }
    .into_any()
}

/// Deletes at once and offers to take it back.
fn remove(id: ConversationId, list: Conversations, toasts: Toasts, t: &'static ChatTexts) {
    spawn_local(async move {
        if let Err(error) = api::delete_conversation(id).await {
            toasts.show_problem(&error);
            return;
        }
        list.remove(id);
        toasts.show_with_undo(
            t.deleted,
            Callback::new(move |()| {
                spawn_local(async move {
                    match api::restore_conversation(id).await {
                        Ok(()) => list.refresh(),
                        Err(error) => toasts.show_problem(&error),
                    }
                });
            }),
        );
    });
}

#[component]
fn Rename(item: Item, list: Conversations) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let toasts = use_toasts();
    let id = item.id;
    let before = item.summary.with_untracked(|summary| summary.title.clone());
    let node = NodeRef::<html::Input>::new();
    Effect::new(move |_| {
        if let Some(node) = node.get() {
            focus(&node);
            node.select();
        }
    });
    let value = before.clone();
    let finish = Callback::new(move |()| {
        // Leaving the field after Enter or Escape comes here a second time.
        if list.renaming.get_untracked() != Some(id) {
            return;
        }
        let title = node.get_untracked().map(|node| node.value().trim().to_owned()).unwrap_or_default();
        list.renaming.set(None);
        if title.is_empty() || title == before {
            return;
        }
        spawn_local(async move {
            if let Err(error) = list.save(id, ConversationChange { title: Some(title), ..ConversationChange::default() }).await {
                toasts.show_problem(&error);
            }
        });
    });
    let on_key = move |event: leptos::ev::KeyboardEvent| match event.key().as_str() {
        "Enter" if !event.is_composing() => {
            event.prevent_default();
            finish.run(());
        }
        "Escape" => {
            event.prevent_default();
            event.stop_propagation();
            list.renaming.set(None);
        }
        _ => {}
    };
    view! {
        <input
            class="input"
            type="text"
            maxlength="200"
            aria-label=t.rename_label
            node_ref=node
            value=value
            on:keydown=on_key
            on:blur=move |_| {
                // Taking the field away makes it lose the focus once more, after its end.
                let _unused = finish.try_run(());
            }
        />
    }
    .into_any()
}

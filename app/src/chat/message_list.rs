//! The messages: a scrolling list of which only the visible part exists. A new chat has none, so the browser
//! fetches this part (and with it all that shows Markdown) only when the first one is on its way.

use super::{actions::Actions, answer::Answer, api, question::Question, rows::Row, scroller::Scroller};
use crate::{
    i18n::{chat::ChatTexts, use_texts},
    lazy::{lazy_part, when_arrived},
    ui::icon::{Glyph, Icon},
};
use contract::chat::MessageRole;
use leptos::{html, prelude::*, task::spawn_local};

lazy_part!(static LIST = message_list: show as fn(Actions) -> AnyView);

/// Loads the code if the server has rendered messages into the page, which only the same code can take over.
pub async fn prepare() {
    if document().query_selector(".chat-scroll").is_ok_and(|found| found.is_some()) {
        LIST.load().await;
    }
}

/// Asks for the code without waiting for it.
pub fn prefetch() {
    let _asked = LIST.code();
}

/// The list of messages.
#[component]
pub fn Messages(actions: Actions) -> impl IntoView {
    when_arrived(&LIST, move |show| show(actions)).into_any()
}

fn show(actions: Actions) -> AnyView {
    view! { <MessageList actions/> }.into_any()
}

/// The list of messages with its *Jump to latest* button.
#[component]
fn MessageList(actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let chat = actions.chat;
    let fetching = RwSignal::new(false);
    let scroller_cell = StoredValue::new(None::<Scroller>);
    let scroller = Scroller::new(chat, Callback::new(move |()| fetch_earlier(actions, fetching, scroller_cell)));
    scroller_cell.set_value(Some(scroller));
    // Hydration needs the server's first view: everything, its end in view.
    let ready = RwSignal::new(false);
    Effect::new(move |_| {
        ready.set(true);
        scroller.start();
    });
    on_cleanup(Scroller::stop);
    follow_changes(actions, scroller);
    let visible = move || {
        let window = scroller.window.get();
        chat.rows.with(|rows| match window.filter(|_| ready.get()) {
            Some(window) => rows.get(window.rows.start.min(rows.len())..window.rows.end.min(rows.len())).unwrap_or_default().to_vec(),
            None => rows.clone(),
        })
    };
    let room = move |side: fn(&super::window::Window) -> f64| {
        move || {
            scroller.window.with(|window| window.as_ref().map_or_else(String::new, |window| format!("height:{}px", side(window).round())))
        }
    };
    view! {
        <div
            class="chat-scroll"
            class:chat-scroll-ssr=move || !ready.get()
            node_ref=scroller.frame
            tabindex="0"
            role="region"
            aria-label=t.messages
            on:scroll=move |_| scroller.scrolled()
            on:wheel=move |_| scroller.taken_over()
            on:touchmove=move |_| scroller.taken_over()
        >
            <div class="chat-column">
                <Show when=move || fetching.get()>
                    <p class="chat-fetching" role="status">{t.loading_earlier}</p>
                </Show>
                <div aria-hidden="true" style=room(|window| window.before)></div>
                <For each=visible key=|row| row.id let(row)>
                    <MessageRow row actions/>
                </For>
                <div aria-hidden="true" style=room(|window| window.after)></div>
            </div>
        </div>
        <Show when=move || scroller.away.get()>
            <button type="button" class="chat-jump btn btn-secondary" on:click=move |_| scroller.to_end()>
                <Icon glyph=Glyph::ArrowDown size=16/>
                {t.jump_to_latest}
            </button>
        </Show>
    }
    .into_any()
}

/// Keeps the window in step with what happens to the rows.
fn follow_changes(actions: Actions, scroller: Scroller) {
    let chat = actions.chat;
    Effect::new(move |before: Option<Option<_>>| {
        let id = chat.id.get();
        // A new chat that just got its id is the same chat.
        if let Some(before) = before
            && before != id
            && before.is_some()
        {
            scroller.forget();
        }
        id
    });
    Effect::new(move |_| {
        chat.rows.track();
        request_animation_frame(move || scroller.update());
    });
    Effect::new(move |before: Option<u32>| {
        let wanted = chat.to_end.get();
        if before.is_some_and(|before| before != wanted) {
            scroller.to_end();
        }
        wanted
    });
    Effect::new(move |_| {
        let Some(target) = chat.target.get() else { return };
        chat.rows.track();
        if chat.index_of(target).is_some() {
            request_animation_frame(move || scroller.to_message(target));
        }
    });
}

fn fetch_earlier(actions: Actions, fetching: RwSignal<bool>, scroller: StoredValue<Option<Scroller>>) {
    let chat = actions.chat;
    let (Some(conversation), Some(first)) = (chat.id.get_untracked(), chat.rows.with_untracked(|rows| rows.first().map(|row| row.id)))
    else {
        return;
    };
    if fetching.get_untracked() {
        return;
    }
    fetching.set(true);
    spawn_local(async move {
        let result = api::earlier_messages(conversation, first).await;
        fetching.set(false);
        // Meanwhile another chat or branch may be on the page.
        if chat.rows.with_untracked(|rows| rows.first().map(|row| row.id)) != Some(first) {
            return;
        }
        match result {
            Ok(page) => {
                let added = page.messages.len();
                chat.rows.update(|rows| {
                    rows.splice(0..0, page.messages.into_iter().map(Row::new));
                });
                chat.earlier.set(page.earlier);
                if let Some(scroller) = scroller.get_value() {
                    scroller.prepended(added);
                }
            }
            Err(error) => actions.fail(error),
        }
    });
}

#[component]
fn MessageRow(row: Row, actions: Actions) -> impl IntoView {
    let node = NodeRef::<html::Div>::new();
    Effect::new(move |_| {
        if let Some(element) = node.get() {
            Scroller::watch(&element);
        }
    });
    let id = row.id;
    let marked = move || actions.chat.target.get() == Some(id);
    let content = match row.role {
        MessageRole::User => view! { <Question row actions/> }.into_any(),
        MessageRole::Assistant => view! { <Answer row actions/> }.into_any(),
    };
    view! {
        <div class="chat-row" class:chat-row-marked=marked node_ref=node data-message=id.to_string()>
            {content}
        </div>
    }
    .into_any()
}

//! The side bar: new chat, search, and the conversations by time.

use super::{
    api,
    groups::Group,
    list::{Conversations, Item, use_conversations},
    sidebar_row::SidebarRow,
};
use crate::{
    UiError,
    i18n::{chat::ChatTexts, use_texts},
    ui::{
        button::{Button, Look},
        field::TextField,
        icon::{Glyph, Icon},
        layout::use_frame,
        problem::ProblemNotice,
        shortcuts::{Keys, Shortcut, use_shortcut},
        skeleton::SkeletonLines,
        time,
    },
};
use contract::{Millis, chat::ConversationSummary, page::Page};
use leptos::{html, prelude::*};
use leptos_router::hooks::use_navigate;

/// This close to the end of the list the next page is fetched, in pixels.
const NEAR_END: i32 = 400;

type Loaded = (Result<Page<ConversationSummary>, UiError>, Millis);

/// Navigation *Conversations*, shown beside every page.
#[component]
pub fn Sidebar() -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let list = use_conversations();
    let first = Resource::new_blocking(|| (), |()| load());
    let navigate = use_navigate();
    let frame = use_frame();
    let new_chat = Callback::new(move |()| {
        list.fresh.update(|count| *count = count.wrapping_add(1));
        frame.drawer_open.set(false);
        navigate("/", leptos_router::NavigateOptions::default());
    });
    use_shortcut(Shortcut { keys: Keys::ctrl_shift("o"), group: t.shortcuts_chat, label: t.new_chat, in_fields: true }, move || {
        new_chat.run(())
    });
    view! {
        <nav class="sidebar" aria-label=t.conversations>
            <div class="sidebar-head">
                <Button look=Look::Secondary icon=Glyph::Plus block=true on:click=move |_| new_chat.run(())>
                    {t.new_chat}
                </Button>
                <SearchBox/>
            </div>
            <Suspense fallback=|| {
                view! {
                    <div class="px-3">
                        <SkeletonLines lines=8/>
                    </div>
                }
            }>{move || Suspend::new(async move { view! { <Loading list loaded=first.await/> } })}</Suspense>
        </nav>
    }
    .into_any()
}

async fn load() -> Loaded {
    (api::list_conversations(false, None).await, time::now())
}

/// The search field: leads to the search page.
#[component]
fn SearchBox() -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let words = RwSignal::new(String::new());
    let node = NodeRef::<html::Input>::new();
    let navigate = use_navigate();
    let frame = use_frame();
    let search = Callback::new(move |()| {
        let query = js_sys::encode_uri_component(words.with_untracked(|words| words.trim().to_owned()).as_str());
        frame.drawer_open.set(false);
        navigate(&format!("/search?q={query}"), leptos_router::NavigateOptions::default());
    });
    use_shortcut(Shortcut { keys: Keys::ctrl("k"), group: t.shortcuts_chat, label: t.search, in_fields: true }, move || {
        let visible = node.get_untracked().filter(|node| node.offset_width() > 0);
        match visible {
            Some(node) => {
                crate::ui::browser::focus(&node);
                node.select();
            }
            None => search.run(()),
        }
    });
    view! {
        <form
            role="search"
            aria-label=t.search
            on:submit=move |event| {
                event.prevent_default();
                search.run(());
            }
        >
            <TextField name="sidebar_search" kind="search" label=t.search placeholder=t.search hide_label=true icon=Glyph::Search value=words node_ref=node/>
        </form>
    }
    .into_any()
}

/// Takes the first page over into the shared list.
#[component]
fn Loading(list: Conversations, loaded: Loaded) -> impl IntoView {
    let (page, now) = loaded;
    list.now.set(now);
    match page {
        Ok(page) => list.take_first(page),
        Err(error) => list.failure.set(Some(error)),
    }
    view! { <Groups list/> }.into_any()
}

#[component]
fn Groups(list: Conversations) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    // UTC first, so that server and browser agree; then the reader's own days.
    let offset = RwSignal::new(0_i64);
    Effect::new(move |_| {
        let minutes = js_sys::Date::new_0().get_timezone_offset();
        offset.set(-(minutes as i64) * 60_000);
        list.now.set(time::now());
    });
    let groups = Memo::new(move |_| {
        let (now, offset) = (list.now.get(), offset.get());
        list.items.with(|items| {
            let mut present: Vec<Group> = items.iter().map(|item| group_of(item, now, offset)).collect();
            present.sort_unstable();
            present.dedup();
            present
        })
    });
    let members = move |group: Group| {
        let (now, offset) = (list.now.get(), offset.get());
        list.items.with(|items| items.iter().filter(|item| group_of(item, now, offset) == group).cloned().collect::<Vec<_>>())
    };
    let scrolled = move |event: leptos::ev::Event| {
        let frame: web_sys::Element = event_target(&event);
        if frame.scroll_height() - frame.scroll_top() - frame.client_height() < NEAR_END {
            list.load_more();
        }
    };
    view! {
        <div class="sidebar-list" on:scroll=scrolled>
            <For each=move || groups.get() key=|group| *group let(group)>
                <section aria-label=heading(t, group)>
                    <h2 class="sidebar-heading" aria-hidden="true">
                        {heading(t, group)}
                    </h2>
                    <ul>
                        <For each=move || members(group) key=|item| item.id let(item)>
                            <SidebarRow item list/>
                        </For>
                    </ul>
                </section>
            </For>
            <Foot list/>
        </div>
        <ArchiveSwitch list/>
    }
    .into_any()
}

fn group_of(item: &Item, now: Millis, offset: Millis) -> Group {
    item.summary.with_untracked(|summary| Group::of(summary.pinned, summary.updated_at, now, offset))
}

fn heading(t: &'static ChatTexts, group: Group) -> &'static str {
    match group {
        Group::Pinned => t.group_pinned,
        Group::Today => t.group_today,
        Group::Yesterday => t.group_yesterday,
        Group::Week => t.group_week,
        Group::Month => t.group_month,
        Group::Older => t.group_older,
    }
}

/// The end of the list: nothing there, more to come, or a failure.
#[component]
fn Foot(list: Conversations) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    move || {
        if let Some(error) = list.failure.get() {
            view! { <ProblemNotice error retry=Callback::new(move |()| list.retry())/> }.into_any()
        } else if list.loading.get() {
            view! { <SkeletonLines lines=2/> }.into_any()
        } else if list.next.with(Option::is_some) {
            view! {
                <Button look=Look::Quiet block=true on:click=move |_| list.load_more()>
                    {t.more_conversations}
                </Button>
            }
            .into_any()
        } else if list.items.with(Vec::is_empty) {
            let text = if list.archived.get() { t.no_archived } else { t.no_conversations };
            view! { <p class="sidebar-empty">{text}</p> }.into_any()
        } else {
            ().into_any()
        }
    }
}

#[component]
fn ArchiveSwitch(list: Conversations) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let icon = move || {
        if list.archived.get() {
            view! { <Icon glyph=Glyph::Chat size=16/> }
        } else {
            view! { <Icon glyph=Glyph::Archive size=16/> }
        }
    };
    let text = move || if list.archived.get() { t.show_current } else { t.show_archived };
    view! {
        <div class="sidebar-foot">
            <Button look=Look::Quiet on:click=move |_| list.show_archived(!list.archived.get_untracked())>
                {icon}
                {text}
            </Button>
        </div>
    }
    .into_any()
}

//! The search page. The words are in the address, so a search can be linked, reloaded and gone back to.

use super::api::search_messages;
use crate::{
    UiError,
    i18n::{search::SearchTexts, use_texts},
    ui::{
        badge::Badge,
        button::{Button, Look},
        empty::EmptyState,
        field::TextField,
        icon::Glyph,
        problem::ProblemNotice,
        skeleton::SkeletonLines,
        time::{Shown, Time},
    },
};
use contract::{
    chat::{MessageRole, SearchHit},
    ids::ConversationId,
    page::Page,
};
use leptos::{html, prelude::*, task::spawn_local};
use leptos_meta::Title;
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_query_map},
};

/// `/search?q=…`.
#[component]
pub fn SearchPage() -> impl IntoView {
    let t = use_texts::<SearchTexts>();
    let query = use_query_map();
    let words = Memo::new(move |_| query.with(|query| query.get("q")).unwrap_or_default().trim().to_owned());
    let first = Resource::new_blocking(move || words.get(), find);
    view! {
        <Title text=t.title/>
        <div class="page">
            <header class="page-head">
                <div>
                    <h1 class="page-title">{t.title}</h1>
                    <p class="card-lead">{t.lead}</p>
                </div>
            </header>
            <SearchForm words/>
            <Suspense fallback=|| view! { <SkeletonLines lines=6/> }>
                {move || Suspend::new(async move {
                    let found = first.await;
                    view! { <Found found words=words.get_untracked() retry=Callback::new(move |()| first.refetch())/> }
                })}
            </Suspense>
        </div>
    }
    .into_any()
}

/// `None` without words.
async fn find(words: String) -> Result<Option<Page<SearchHit>>, UiError> {
    if words.is_empty() {
        return Ok(None);
    }
    search_messages(words, None).await.map(Some)
}

#[component]
fn SearchForm(words: Memo<String>) -> impl IntoView {
    let t = use_texts::<SearchTexts>();
    let typed = RwSignal::new(words.get_untracked());
    Effect::new(move |_| typed.set(words.get()));
    let node = NodeRef::<html::Input>::new();
    Effect::new(move |_| {
        if let Some(node) = node.get().filter(|_| words.with_untracked(String::is_empty)) {
            crate::ui::browser::focus(&node);
        }
    });
    let navigate = use_navigate();
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let query = js_sys::encode_uri_component(typed.with_untracked(|typed| typed.trim().to_owned()).as_str());
        navigate(&format!("/search?q={query}"), NavigateOptions::default());
    };
    view! {
        <form class="row mb-6" role="search" aria-label=t.words on:submit=submit>
            <div class="flex-1">
                <TextField name="q" kind="search" label=t.words hide_label=true icon=Glyph::Search value=typed node_ref=node/>
            </div>
            <Button look=Look::Primary submit=true>
                {t.submit}
            </Button>
        </form>
    }
    .into_any()
}

#[component]
fn Found(found: Result<Option<Page<SearchHit>>, UiError>, words: String, retry: Callback<()>) -> impl IntoView {
    let t = use_texts::<SearchTexts>();
    match found {
        Err(error) => view! { <ProblemNotice error retry/> }.into_any(),
        Ok(None) => view! { <EmptyState icon=Glyph::Search title=t.start_title text=t.start_text/> }.into_any(),
        Ok(Some(page)) if page.items.is_empty() => {
            view! { <EmptyState icon=Glyph::Search title=t.nothing_title text=t.nothing_text/> }.into_any()
        }
        Ok(Some(page)) => view! { <Hits page words/> }.into_any(),
    }
}

#[component]
fn Hits(page: Page<SearchHit>, words: String) -> impl IntoView {
    let t = use_texts::<SearchTexts>();
    let hits = RwSignal::new(page.items);
    let next = RwSignal::new(page.next);
    let loading = RwSignal::new(false);
    let failure = RwSignal::new(None::<UiError>);
    let more = Callback::new(move |()| {
        let Some(cursor) = next.get_untracked().filter(|_| !loading.get_untracked()) else {
            return;
        };
        loading.set(true);
        failure.set(None);
        let words = words.clone();
        spawn_local(async move {
            let result = search_messages(words, Some(cursor)).await;
            // Another search may be on the page by now.
            let _unused = loading.try_set(false);
            match result {
                Ok(page) => {
                    let _unused = next.try_set(page.next);
                    let _unused = hits.try_update(|hits| hits.extend(page.items));
                }
                Err(error) => {
                    let _unused = failure.try_set(Some(error));
                }
            }
        });
    });
    let groups = move || {
        let grouped = hits.with(|hits| by_conversation(hits));
        grouped.into_iter().map(|(conversation, hits)| view! { <Conversation conversation hits/> }).collect_view()
    };
    view! {
        <div class="stack-lg" role="region" aria-label=t.results>
            {groups}
            {move || failure.get().map(|error| view! { <ProblemNotice error retry=more/> })}
            <Show when=move || next.with(Option::is_some)>
                <Button disabled=loading on:click=move |_| more.run(())>
                    {t.more}
                </Button>
            </Show>
        </div>
    }
    .into_any()
}

/// Hits of one chat together, chats in the order of their best hit.
fn by_conversation(hits: &[SearchHit]) -> Vec<(ConversationId, Vec<SearchHit>)> {
    let mut groups: Vec<(ConversationId, Vec<SearchHit>)> = Vec::new();
    for hit in hits {
        match groups.iter_mut().find(|(conversation, _)| *conversation == hit.conversation) {
            Some((_, group)) => group.push(hit.clone()),
            None => groups.push((hit.conversation, vec![hit.clone()])),
        }
    }
    groups
}

#[component]
fn Conversation(conversation: ConversationId, hits: Vec<SearchHit>) -> impl IntoView {
    let t = use_texts::<SearchTexts>();
    let title = hits.first().map(|hit| hit.title.clone()).filter(|title| !title.is_empty()).unwrap_or_else(|| t.untitled.to_owned());
    let items = hits.into_iter().map(|hit| view! { <Hit hit/> }).collect_view();
    view! {
        <section class="card">
            <h2 class="card-title">
                <a class="link" href=format!("/c/{conversation}")>
                    {title}
                </a>
            </h2>
            <ul class="divide-y divide-line">{items}</ul>
        </section>
    }
    .into_any()
}

#[component]
fn Hit(hit: SearchHit) -> impl IntoView {
    let t = use_texts::<SearchTexts>();
    let role = match hit.role {
        MessageRole::User => t.question,
        MessageRole::Assistant => t.answer,
    };
    let snippet = hit
        .snippet
        .into_iter()
        .map(|part| if part.hit { view! { <mark>{part.text}</mark> }.into_any() } else { part.text.into_any() })
        .collect_view();
    view! {
        <li class="py-3">
            <a class="search-hit" href=format!("/c/{}?m={}", hit.conversation, hit.message)>
                <span class="row mb-1 text-sm text-faint">
                    <Badge>{role}</Badge>
                    <Time at=hit.created_at shown=Shown::Date/>
                </span>
                <span class="block">{snippet}</span>
            </a>
        </li>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::by_conversation;
    use contract::{
        chat::{MessageRole, SearchHit},
        ids::{ConversationId, MessageId},
    };

    #[test]
    fn search_hits_of_one_chat_stand_together_in_the_order_of_the_best() {
        let hit = |conversation: u128, message: u128| SearchHit {
            conversation: ConversationId(uuid::Uuid::from_u128(conversation)),
            message: MessageId(uuid::Uuid::from_u128(message)),
            title: String::new(),
            role: MessageRole::User,
            snippet: Vec::new(),
            created_at: 0,
        };
        let groups = by_conversation(&[hit(2, 1), hit(1, 2), hit(2, 3)]);
        let shape: Vec<_> = groups.iter().map(|(conversation, hits)| (conversation.0.as_u128(), hits.len())).collect();
        assert_eq!(shape, [(2, 2), (1, 1)]);
    }
}

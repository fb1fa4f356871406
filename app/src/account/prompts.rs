//! *Prompt history*: every own question, to be searched, filtered and used again.
//!
//! The filter lives in the address (`?q=&from=&to=`), so it survives reload and can be shared.

use super::api::list_prompts;
use crate::{
    i18n::{CommonTexts, account::AccountTexts, use_texts},
    ui::{
        button::{Button, LinkButton, Look},
        empty::EmptyState,
        field::TextField,
        icon::Glyph,
        problem::ProblemNotice,
        skeleton::SkeletonLines,
        time::{Time, parse_day},
        toast::use_toasts,
    },
};
use contract::{
    chat::{PromptEntry, PromptFilter},
    page::Page,
};
use leptos::{ev, prelude::*, task::spawn_local};
use leptos_meta::Title;
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_query_map},
};

/// Longer prompts are folded to their beginning, in characters.
const FOLD_CHARS: usize = 480;
const DAY_MS: i64 = 86_400_000;

/// What the address asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    query: String,
    from: String,
    to: String,
}

impl Filter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn address(&self) -> String {
        let encode = |text: &str| String::from(js_sys::encode_uri_component(text.trim()));
        let parts: Vec<String> = [("q", &self.query), ("from", &self.from), ("to", &self.to)]
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(key, value)| format!("{key}={}", encode(value)))
            .collect();
        if parts.is_empty() { "/account/prompts".to_owned() } else { format!("/account/prompts?{}", parts.join("&")) }
    }

    /// Both days are included.
    fn for_server(&self) -> PromptFilter {
        PromptFilter {
            query: self.query.clone(),
            from: parse_day(&self.from),
            to: parse_day(&self.to).map(|day| day + DAY_MS - 1),
            conversation: None,
        }
    }
}

/// `/account/prompts`.
#[component]
pub fn PromptsTab() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let query = use_query_map();
    let filter = Memo::new(move |_| {
        query.with(|query| {
            let read = |key: &str| query.get(key).unwrap_or_default();
            Filter { query: read("q"), from: read("from"), to: read("to") }
        })
    });
    let prompts = Resource::new(move || filter.get(), |filter| async move { list_prompts(filter.for_server(), None).await });
    view! {
        <Title text=common.prompt_history/>
        <div class="stack">
            <p class="card-lead">{t.prompts_lead}</p>
            <FilterForm filter/>
            <Suspense fallback=|| view! { <SkeletonLines lines=8/> }>
                {move || Suspend::new(async move {
                    match prompts.await {
                        Ok(page) => view! { <PromptList filter=filter.get_untracked() page/> }.into_any(),
                        Err(error) => view! { <ProblemNotice error retry=Callback::new(move |()| prompts.refetch())/> }.into_any(),
                    }
                })}
            </Suspense>
        </div>
    }
    .into_any()
}

#[component]
fn FilterForm(filter: Memo<Filter>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let navigate = use_navigate();
    let (query, from, to) = (RwSignal::new(String::new()), RwSignal::new(String::new()), RwSignal::new(String::new()));
    let fill_in = move |filter: Filter| {
        query.set(filter.query);
        from.set(filter.from);
        to.set(filter.to);
    };
    fill_in(filter.get_untracked());
    // Back and forward change the address without the form.
    Effect::new(move |before: Option<Filter>| {
        let now = filter.get();
        if before.is_some_and(|before| before != now) {
            fill_in(now.clone());
        }
        now
    });
    let go = {
        let navigate = navigate.clone();
        move |event: ev::SubmitEvent| {
            event.prevent_default();
            let wanted = Filter { query: query.get_untracked(), from: from.get_untracked(), to: to.get_untracked() };
            navigate(&wanted.address(), NavigateOptions { scroll: false, ..Default::default() });
        }
    };
    view! {
        // Works without script, too: the browser sends the same address.
        <form class="flex flex-wrap items-end gap-3" method="get" action="/account/prompts" role="search" aria-label=t.prompts_search on:submit=go>
            <div class="min-w-56 flex-1">
                <TextField name="q" kind="search" label=t.prompts_search value=query icon=Glyph::Search/>
            </div>
            <TextField name="from" kind="date" label=t.from value=from/>
            <TextField name="to" kind="date" label=t.to value=to/>
            <Button submit=true>{t.apply}</Button>
            <Show when=move || filter.with(|filter| !filter.is_empty())>
                <LinkButton href="/account/prompts" look=Look::Quiet>
                    {t.clear}
                </LinkButton>
            </Show>
        </form>
    }
    .into_any()
}

/// The first page and those that were asked for after it.
#[component]
fn PromptList(filter: Filter, page: Page<PromptEntry>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let toasts = use_toasts();
    if page.items.is_empty() {
        return if filter.is_empty() {
            view! {
                <EmptyState icon=Glyph::History title=t.prompts_empty_title text=t.prompts_empty_text>
                    <LinkButton href="/" look=Look::Primary icon=Glyph::Plus>
                        {t.new_chat}
                    </LinkButton>
                </EmptyState>
            }
            .into_any()
        } else {
            view! { <EmptyState icon=Glyph::Search title=t.prompts_none_title text=t.prompts_none_text/> }.into_any()
        };
    }
    let entries = RwSignal::new(page.items);
    let next = RwSignal::new(page.next);
    let busy = RwSignal::new(false);
    let more = move || {
        let Some(cursor) = next.get_untracked() else { return };
        busy.set(true);
        let filter = filter.for_server();
        spawn_local(async move {
            match list_prompts(filter, Some(cursor)).await {
                Ok(page) => {
                    entries.update(|entries| entries.extend(page.items));
                    next.set(page.next);
                }
                Err(error) => toasts.show_problem(&error),
            }
            busy.set(false);
        });
    };
    view! {
        <ul class="list">
            <For each=move || entries.get() key=|entry| entry.message let:entry>
                <PromptRow entry/>
            </For>
        </ul>
        <Show when=move || next.with(Option::is_some)>
            <div class="row justify-center">
                <Button
                    disabled=busy
                    on:click={
                        let more = more.clone();
                        move |_| more()
                    }
                >
                    {move || if busy.get() { common.loading } else { common.load_more }}
                </Button>
            </div>
        </Show>
    }
    .into_any()
}

/// The beginning of a text, cut at a character border; `None` if it is short enough.
fn folded(text: &str) -> Option<String> {
    text.char_indices().nth(FOLD_CHARS).map(|(cut, _)| format!("{}…", text[..cut].trim_end()))
}

#[component]
fn PromptRow(entry: PromptEntry) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let PromptEntry { message, conversation, title, content, created_at } = entry;
    let short = folded(&content);
    let navigate = use_navigate();
    let again = {
        let content = content.clone();
        // Not a link: the router would follow it before this is done.
        move |_| {
            crate::chat::prepare_new_chat(&content);
            navigate("/", NavigateOptions::default());
        }
    };
    let open = RwSignal::new(false);
    let foldable = short.is_some();
    let text = move || if open.get() { content.clone() } else { short.clone().unwrap_or_else(|| content.clone()) };
    view! {
        <li>
            <p class="flex flex-wrap items-center gap-x-2 text-xs text-faint">
                <Time at=created_at/>
                <span aria-hidden="true">"·"</span>
                <span class="min-w-0 truncate">{title}</span>
            </p>
            <p class="my-1.5 break-words whitespace-pre-wrap">{text}</p>
            <div class="row -ml-3.5 gap-1">
                <Button look=Look::Quiet icon=Glyph::Refresh on:click=again>
                    {t.use_again}
                </Button>
                <LinkButton href=format!("/c/{conversation}?m={message}") look=Look::Quiet icon=Glyph::Chat>
                    {t.open_chat}
                </LinkButton>
                {foldable
                    .then(|| {
                        view! {
                            <button
                                type="button"
                                class="btn btn-quiet"
                                aria-expanded=move || open.get().to_string()
                                on:click=move |_| open.update(|open| *open = !*open)
                            >
                                {move || if open.get() { t.show_less } else { t.show_all }}
                            </button>
                        }
                    })}
            </div>
        </li>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::{FOLD_CHARS, Filter, folded};

    #[test]
    fn long_prompts_are_folded_between_characters() {
        assert_eq!(folded("short"), None);
        let long = "ä".repeat(FOLD_CHARS + 1);
        assert_eq!(folded(&long).map(|text| text.chars().count()), Some(FOLD_CHARS + 1));
    }

    #[test]
    fn the_last_day_of_the_filter_is_included() {
        let filter = Filter { query: String::new(), from: "2024-01-02".into(), to: "2024-01-02".into() }.for_server();
        assert_eq!(filter.to.zip(filter.from).map(|(to, from)| to - from), Some(86_400_000 - 1));
    }
}

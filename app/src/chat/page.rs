//! The chat page, for a new chat (`/`) and an existing one (`/c/{conversation}`). It stays mounted
//! while the address goes from one to the other.

use super::{
    actions::Actions,
    api,
    composer::{Composer, ComposerForm},
    copy::copy,
    empty::EmptyChat,
    header::ChatHeader,
    list::use_conversations,
    message_list::Messages,
    state::Chat,
    stream, temporary,
};
use crate::{
    UiError,
    i18n::{chat::ChatTexts, use_texts},
    ui::{
        icon::{Glyph, Icon},
        live::use_announcer,
        problem::ProblemNotice,
        shortcuts::{Keys, Shortcut, use_shortcut},
        skeleton::SkeletonLines,
    },
};
use contract::{
    chat::ConversationView,
    ids::{ConversationId, MessageId},
    model::ModelInfo,
};
use leptos::{prelude::*, task::spawn_local};
use leptos_meta::Title;
use leptos_router::{
    NavigateOptions,
    hooks::{use_location, use_navigate, use_query_map},
};

/// What the address asks for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    conversation: Option<ConversationId>,
    message: Option<MessageId>,
}

/// What the page was loaded with.
type Loaded = (Result<Option<ConversationView>, UiError>, Result<Vec<ModelInfo>, UiError>);

/// The chat page.
#[component]
pub fn ChatPage() -> impl IntoView {
    let wanted = use_wanted();
    // Loaded once: later chats are fetched by `follow_address` without taking the page down.
    let loaded = Resource::new_blocking(|| (), move |()| load_all(wanted.get_untracked()));
    view! {
        <Suspense fallback=|| {
            view! {
                <div class="chat-column pt-8">
                    <SkeletonLines lines=6/>
                </div>
            }
        }>{move || Suspend::new(async move { view! { <ChatView loaded=loaded.await wanted/> } })}</Suspense>
    }
    .into_any()
}

fn use_wanted() -> Memo<Wanted> {
    let path = use_location().pathname;
    let query = use_query_map();
    Memo::new(move |_| {
        let conversation = path.with(|path| path.strip_prefix("/c/").and_then(|id| id.trim_end_matches('/').parse().ok()));
        let message = query.with(|query| query.get("m")).and_then(|id| id.parse().ok());
        Wanted { conversation, message }
    })
}

async fn load_all(wanted: Wanted) -> Loaded {
    let models = api::list_models().await;
    (load(wanted).await, models)
}

async fn load(wanted: Wanted) -> Result<Option<ConversationView>, UiError> {
    let view = match wanted {
        Wanted { conversation: None, .. } => return Ok(None),
        Wanted { conversation: Some(id), message: Some(message) } => api::open_message(id, message).await?,
        Wanted { conversation: Some(id), message: None } => api::open_conversation(id).await?,
    };
    Ok(Some(view))
}

#[component]
fn ChatView(loaded: Loaded, wanted: Memo<Wanted>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let (view, models) = loaded;
    let navigate = use_navigate();
    let navigate =
        Callback::new(move |address: String| navigate(&address, NavigateOptions { scroll: false, ..NavigateOptions::default() }));
    let chat = Chat::new(use_conversations(), models.as_ref().cloned().unwrap_or_default());
    if let Err(error) = models {
        chat.failure.set(Some(error));
    }
    let actions = Actions::new(chat, use_announcer(), navigate, t.answer_ended);
    let running = view.as_ref().ok().and_then(|view| view.as_ref().and_then(|view| view.running));
    take(chat, view);
    chat.target.set(wanted.get_untracked().message);
    Effect::new(move |_| {
        if let Some(turn) = running {
            actions.follow(turn);
        }
    });
    Effect::new(move |_| {
        if let Some((id, title)) = chat.conversations.renamed.get()
            && chat.id.get_untracked() == Some(id)
        {
            chat.title.set(title);
        }
    });
    on_cleanup(stream::stop_following);
    on_cleanup(temporary::forget);
    let composer = Composer::new();
    follow_address(actions, composer, wanted);
    shortcuts(actions, composer);
    let title = move || chat.title.with(|title| if title.is_empty() { t.new_chat.to_owned() } else { title.clone() });
    view! {
        <Title text=title/>
        <div class="chat">
            <ChatHeader actions/>
            <TemporaryBanner actions/>
            <Body actions composer/>
            <Show when=move || chat.refused.with(Option::is_none)>
                <ComposerForm composer actions/>
            </Show>
        </div>
    }
    .into_any()
}

/// Shows what was loaded; while the page is being made nothing listens yet.
fn take(chat: Chat, loaded: Result<Option<ConversationView>, UiError>) {
    match loaded {
        Ok(Some(view)) => chat.show(view),
        Ok(None) => {}
        Err(error) => chat.refused.set(Some(error)),
    }
}

/// Goes to another chat when the address does.
fn follow_address(actions: Actions, composer: Composer, wanted: Memo<Wanted>) {
    let chat = actions.chat;
    let fresh = chat.conversations.fresh;
    Effect::new(move |before: Option<Wanted>| {
        let now = wanted.get();
        if before.is_some_and(|before| before != now) {
            open(actions, composer, wanted);
        }
        now
    });
    // *New chat* while a new (or temporary) chat is on the page: the address does not change.
    Effect::new(move |before: Option<u32>| {
        let count = fresh.get();
        if before.is_some_and(|before| before != count) && wanted.get_untracked().conversation.is_none() {
            open(actions, composer, wanted);
        }
        count
    });
}

fn open(actions: Actions, composer: Composer, address: Memo<Wanted>) {
    let chat = actions.chat;
    let wanted = address.get_untracked();
    let Some(id) = wanted.conversation else {
        stream::stop_following();
        temporary::forget();
        chat.loading.set(false);
        chat.reset();
        composer.focus();
        return;
    };
    // A chat that just got its address, or a message that is on the page already.
    let loaded = !chat.loading.get_untracked() && wanted.message.is_none_or(|message| chat.index_of(message).is_some());
    if chat.id.get_untracked() == Some(id) && loaded && chat.refused.with_untracked(Option::is_none) {
        chat.target.set(wanted.message);
        return;
    }
    stream::stop_following();
    temporary::forget();
    chat.target.set(None);
    chat.loading.set(true);
    spawn_local(async move {
        let result = load(wanted.clone()).await;
        // Meanwhile the reader may have gone on to another chat or page.
        if address.try_get_untracked().as_ref() != Some(&wanted) {
            return;
        }
        chat.loading.set(false);
        match result {
            Ok(Some(view)) => {
                actions.show(view);
                chat.target.set(wanted.message);
                if wanted.message.is_none() {
                    chat.scroll_to_end();
                }
            }
            Ok(None) => {}
            Err(error) => {
                chat.reset();
                chat.refused.set(Some(error));
            }
        }
    });
}

#[component]
fn Body(actions: Actions, composer: Composer) -> impl IntoView {
    let chat = actions.chat;
    let empty = Memo::new(move |_| chat.is_empty());
    move || {
        if let Some(error) = chat.refused.get() {
            let retry = Callback::new(move |()| actions.retry_open());
            view! {
                <div class="chat-column flex-1 pt-8">
                    <ProblemNotice error retry/>
                </div>
            }
            .into_any()
        } else if chat.loading.get() {
            view! {
                <div class="chat-column flex-1 pt-8">
                    <SkeletonLines lines=6/>
                </div>
            }
            .into_any()
        } else if empty.get() {
            view! { <EmptyChat composer/> }.into_any()
        } else {
            view! { <Messages actions/> }.into_any()
        }
    }
}

#[component]
fn TemporaryBanner(actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    view! {
        <Show when=move || actions.chat.temporary.get()>
            <div class="temporary-banner" role="status">
                <Icon glyph=Glyph::Temporary/>
                <span>{t.temporary_banner}</span>
            </div>
        </Show>
    }
    .into_any()
}

fn shortcuts(actions: Actions, composer: Composer) {
    let t = use_texts::<ChatTexts>();
    let announcer = use_announcer();
    let shortcut = move |keys, label, in_fields| Shortcut { keys, group: t.shortcuts_chat, label, in_fields };
    use_shortcut(shortcut(Keys::plain("Escape"), t.stop, true), move || actions.stop());
    use_shortcut(shortcut(Keys::plain("/"), t.focus_message, false), move || composer.focus());
    use_shortcut(shortcut(Keys::ctrl_shift("c"), t.copy_last_answer, true), move || {
        if let Some(answer) = actions.chat.last_answer() {
            copy(answer.text.get_untracked(), announcer, t.copied, || {});
        }
    });
}

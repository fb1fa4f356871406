//! *Sessions*: where one is signed in, and how to end it.

use super::{
    api::{list_sessions, revoke_other_sessions, revoke_session},
    user_agent::recognise,
};
use crate::{
    i18n::{CommonTexts, account::AccountTexts, fill, use_texts},
    sign_in::leave,
    ui::{
        badge::{Badge, Tone},
        button::{Button, Look},
        icon::{Glyph, Icon},
        problem::ProblemNotice,
        skeleton::SkeletonLines,
        time::Time,
        toast::use_toasts,
    },
};
use contract::account::SessionInfo;
use leptos::{prelude::*, task::spawn_local};
use leptos_meta::Title;

/// `/account/sessions`.
#[component]
pub fn SessionsTab() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let sessions = Resource::new(|| (), |()| list_sessions());
    view! {
        <Title text=common.sessions/>
        <div class="stack">
            <p class="card-lead">{t.sessions_lead}</p>
            <Suspense fallback=|| view! { <SkeletonLines lines=4/> }>
                {move || Suspend::new(async move {
                    match sessions.await {
                        Ok(list) => view! { <SessionList list/> }.into_any(),
                        Err(error) => view! { <ProblemNotice error retry=Callback::new(move |()| sessions.refetch())/> }.into_any(),
                    }
                })}
            </Suspense>
        </div>
    }
    .into_any()
}

#[component]
fn SessionList(mut list: Vec<SessionInfo>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let toasts = use_toasts();
    list.sort_by_key(|session| (!session.current, std::cmp::Reverse(session.last_seen_at)));
    let list = RwSignal::new(list);
    let busy = RwSignal::new(false);
    let others = move || list.with(|list| list.iter().any(|session| !session.current));
    let end_others = move |_| {
        busy.set(true);
        spawn_local(async move {
            match revoke_other_sessions().await {
                Ok(()) => {
                    list.update(|list| list.retain(|session| session.current));
                    toasts.show(t.sessions_ended_others);
                }
                Err(error) => toasts.show_problem(&error),
            }
            busy.set(false);
        });
    };
    view! {
        <ul class="list">
            <For each=move || list.get() key=|session| session.id let:session>
                <SessionRow session list/>
            </For>
        </ul>
        <Show when=others fallback=move || view! { <p class="field-hint">{t.sessions_only_this}</p> }>
            <div class="row">
                <Button look=Look::DangerQuiet icon=Glyph::SignOut disabled=busy on:click=end_others>
                    {t.sessions_end_others}
                </Button>
            </div>
        </Show>
    }
    .into_any()
}

fn name(t: &AccountTexts, user_agent: &str) -> String {
    match recognise(user_agent) {
        (Some(browser), Some(system)) => fill(t.session_on, &[("browser", browser), ("system", system)]),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => t.session_unknown.to_owned(),
    }
}

#[component]
fn SessionRow(session: SessionInfo, list: RwSignal<Vec<SessionInfo>>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let toasts = use_toasts();
    let SessionInfo { id, user_agent, created_at, last_seen_at, current, .. } = session;
    let name = name(t, &user_agent);
    let end = move |_| {
        if current {
            leave(toasts);
            return;
        }
        spawn_local(async move {
            match revoke_session(id).await {
                Ok(()) => {
                    list.update(|list| list.retain(|session| session.id != id));
                    toasts.show(t.session_ended);
                }
                Err(error) => toasts.show_problem(&error),
            }
        });
    };
    view! {
        <li class="flex flex-wrap items-center gap-x-4 gap-y-2">
            <span class="text-faint">
                <Icon glyph=Glyph::Monitor size=22/>
            </span>
            <div class="min-w-48 flex-1">
                <p class="flex flex-wrap items-center gap-2 font-medium" title=user_agent>
                    {name.clone()}
                    {current.then(|| view! { <Badge tone=Tone::Accent>{t.session_current}</Badge> })}
                </p>
                <p class="text-sm text-faint">
                    {t.session_started} " " <Time at=created_at/> " · " {t.session_seen} " " <Time at=last_seen_at/>
                </p>
            </div>
            <Button attr:aria-label=fill(t.session_end_named, &[("session", &name)]) on:click=end>
                {t.session_end}
            </Button>
        </li>
    }
    .into_any()
}

//! The sign-in page.

use super::{api::sign_in, safe_next};
use crate::{
    i18n::{CommonTexts, sign_in::SignInTexts, use_texts},
    ui::{
        browser::{focus, load_page, use_hydrated},
        button::{Button, Look},
        field::{PasswordField, TextField},
        icon::{Glyph, Icon},
        layout::Logo,
        problem::FormProblem,
    },
    viewer::use_viewer,
};
use leptos::{ev, html, prelude::*, task::spawn_local};
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// `/sign-in?next=…`.
#[component]
pub fn SignInPage() -> impl IntoView {
    let t = use_texts::<SignInTexts>();
    let common = use_texts::<CommonTexts>();
    view! {
        <Title text=t.title/>
        <main id="content" class="sign-in" tabindex="-1">
            <div class="sign-in-form">
                <div class="mb-8 flex items-center gap-3 text-lg font-semibold">
                    <Logo/>
                    {common.product}
                </div>
                <h1 class="page-title">{t.heading}</h1>
                <p class="mt-1 mb-6 text-soft">{t.lead}</p>
                <SignInForm/>
                <p class="field-hint mt-6">{t.forgot}</p>
            </div>
            <aside class="sign-in-aside">
                <p class="max-w-md text-2xl font-semibold text-balance">{t.claim}</p>
                <ul class="stack text-soft">
                    <Point glyph=Glyph::Shield text=t.point_private/>
                    <Point glyph=Glyph::History text=t.point_history/>
                    <Point glyph=Glyph::Chart text=t.point_usage/>
                </ul>
            </aside>
        </main>
    }
    .into_any()
}

#[component]
fn Point(glyph: Glyph, text: &'static str) -> impl IntoView {
    view! {
        <li class="flex items-center gap-3">
            <Icon glyph/>
            {text}
        </li>
    }
    .into_any()
}

/// What is wrong with an entry before it is sent.
fn missing(text: &str, problem: &'static str) -> Option<String> {
    text.trim().is_empty().then(|| problem.to_owned())
}

#[component]
fn SignInForm() -> impl IntoView {
    let t = use_texts::<SignInTexts>();
    let query = use_query_map();
    let hydrated = use_hydrated();
    let (entered, refused) = use_viewer().refused.get_untracked().map(|refused| (refused.email, refused.error)).unzip();
    let (email, password) = (RwSignal::new(entered.unwrap_or_default()), RwSignal::new(String::new()));
    let (email_node, password_node) = (NodeRef::<html::Input>::new(), NodeRef::<html::Input>::new());
    let (email_error, password_error) = (RwSignal::new(None), RwSignal::new(None));
    let busy = RwSignal::new(false);
    let failure = RwSignal::new(refused);

    let submit = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if busy.get_untracked() {
            return;
        }
        email_error.set(missing(&email.get_untracked(), t.email_missing));
        password_error.set(missing(&password.get_untracked(), t.password_missing));
        let first_wrong = [(email_error, email_node), (password_error, password_node)]
            .into_iter()
            .find(|(error, _)| error.with_untracked(Option::is_some));
        if let Some((_, node)) = first_wrong {
            if let Some(input) = node.get_untracked() {
                focus(&input);
            }
            return;
        }
        busy.set(true);
        failure.set(None);
        let next = safe_next(query.with_untracked(|query| query.get("next")).as_deref());
        spawn_local(async move {
            match sign_in(email.get_untracked(), password.get_untracked()).await {
                // A fresh page: nothing of the signed-out one survives.
                Ok(()) => load_page(&next),
                Err(error) => {
                    failure.set(Some(error));
                    busy.set(false);
                    if let Some(input) = password_node.get_untracked() {
                        focus(&input);
                        input.select();
                    }
                }
            }
        });
    };
    view! {
        // Until the page is taken over, the browser checks the fields and sends the form by itself, to `form::receive`.
        <form class="stack" method="post" novalidate=move || hydrated.get() on:submit=submit>
            <FormProblem failure/>
            <TextField name="email" kind="email" label=t.email value=email autocomplete="username" error=email_error node_ref=email_node required=true/>
            <PasswordField name="password" label=t.password value=password autocomplete="current-password" error=password_error node_ref=password_node/>
            <Button look=Look::Primary submit=true block=true disabled=Signal::derive(move || busy.get())>
                {move || if busy.get() { t.submitting } else { t.submit }}
            </Button>
        </form>
    }
    .into_any()
}

//! Changing the password.

use super::api::change_password;
use crate::{
    UiError,
    i18n::{account::AccountTexts, use_texts},
    ui::{
        browser::use_hydrated,
        button::Button,
        field::PasswordField,
        problem::{FormProblem, field_problem},
        toast::use_toasts,
    },
};
use leptos::{ev, prelude::*, task::spawn_local};

const FIELDS: &[&str] = &["current", "new"];

/// A form with the current and the new password.
#[component]
pub fn PasswordCard() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let toasts = use_toasts();
    let hydrated = use_hydrated();
    let (current, new) = (RwSignal::new(String::new()), RwSignal::new(String::new()));
    let busy = RwSignal::new(false);
    let failure = RwSignal::new(None::<UiError>);
    let submit = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        failure.set(None);
        spawn_local(async move {
            match change_password(current.get_untracked(), new.get_untracked()).await {
                Ok(()) => {
                    current.set(String::new());
                    new.set(String::new());
                    toasts.show(t.password_changed);
                }
                Err(error) => failure.set(Some(error)),
            }
            busy.set(false);
        });
    };
    let incomplete = move || current.with(String::is_empty) || new.with(String::is_empty);
    view! {
        <section class="card" aria-labelledby="password-title">
            <h2 id="password-title" class="card-title">{t.password}</h2>
            <p class="card-lead">{t.password_lead}</p>
            <form class="stack mt-4" method="post" novalidate on:submit=submit>
                <div class="form-grid">
                    <PasswordField
                        name="current-password"
                        label=t.password_current
                        value=current
                        autocomplete="current-password"
                        error=field_problem(failure, "current")
                    />
                    <PasswordField
                        name="new-password"
                        label=t.password_new
                        value=new
                        autocomplete="new-password"
                        hint=t.password_hint
                        error=field_problem(failure, "new")
                    />
                </div>
                <FormProblem failure fields=FIELDS/>
                <div class="row">
                    <Button submit=true disabled=Signal::derive(move || busy.get() || !hydrated.get() || incomplete())>
                        {t.password_change}
                    </Button>
                </div>
            </form>
        </section>
    }
    .into_any()
}

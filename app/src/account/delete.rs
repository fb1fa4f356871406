//! The end of an account.

use super::api::delete_account;
use crate::{
    UiError,
    i18n::{CommonTexts, account::AccountTexts, use_texts},
    ui::{
        browser::load_page,
        button::{Button, Look},
        dialog::Dialog,
        field::PasswordField,
        icon::Glyph,
        problem::{FormProblem, field_problem},
    },
};
use leptos::{ev, prelude::*, task::spawn_local};

const FIELDS: &[&str] = &["password"];

/// Leads to the deletion of the account; the dialog asks for the password.
#[component]
pub fn DeleteCard() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let open = RwSignal::new(false);
    view! {
        <section class="card card-danger" aria-labelledby="delete-title">
            <h2 id="delete-title" class="card-title">{t.delete_title}</h2>
            <p class="card-lead mb-4">{t.delete_lead}</p>
            <Button look=Look::DangerQuiet icon=Glyph::Trash on:click=move |_| open.set(true)>
                {t.delete_open}
            </Button>
            <Dialog open title=t.delete_title>
                <DeleteForm open/>
            </Dialog>
        </section>
    }
    .into_any()
}

#[component]
fn DeleteForm(open: RwSignal<bool>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let password = RwSignal::new(String::new());
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
            match delete_account(password.get_untracked()).await {
                Ok(()) => load_page("/sign-in"),
                Err(error) => {
                    failure.set(Some(error));
                    busy.set(false);
                }
            }
        });
    };
    view! {
        <form class="stack" method="post" novalidate on:submit=submit>
            <p>{t.delete_question}</p>
            <PasswordField
                name="delete-password"
                label=t.delete_password
                value=password
                autocomplete="current-password"
                error=field_problem(failure, "password")
            />
            <FormProblem failure fields=FIELDS/>
            <div class="dialog-actions">
                <Button on:click=move |_| open.set(false)>{common.cancel}</Button>
                <Button look=Look::Danger submit=true disabled=Signal::derive(move || busy.get() || password.with(String::is_empty))>
                    {t.delete_confirm}
                </Button>
            </div>
        </form>
    }
    .into_any()
}

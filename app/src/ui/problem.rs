//! Problems on the page: at their field, above a form, or in the place of what could not be loaded.

use super::{
    button::{Button, LinkButton, Look},
    icon::{Glyph, Icon},
};
use crate::{
    UiError,
    i18n::{CommonTexts, fill, problem_text, use_language, use_texts},
};
use contract::problem::ProblemKind;
use leptos::prelude::*;

/// What a form's last attempt came to, if it failed.
pub type Failure = RwSignal<Option<UiError>>;

/// The text for one field: the failure's, if the server blamed this field.
#[must_use]
pub fn field_problem(failure: Failure, field: &'static str) -> Signal<Option<String>> {
    let language = use_language();
    Signal::derive(move || {
        failure.with(|failure| failure.as_ref().filter(|error| error.is_at(field)).map(|error| problem_text(language, error.problem())))
    })
}

/// The failure of a form, unless it is shown at one of the form's own `fields`.
#[component]
pub fn FormProblem(failure: Failure, #[prop(default = &[])] fields: &'static [&'static str]) -> impl IntoView {
    move || failure.get().filter(|error| !fields.iter().any(|field| error.is_at(field))).map(|error| view! { <ProblemNotice error/> })
}

/// A failure in words, with the request id for our faults, and a way to try again.
#[component]
pub fn ProblemNotice(error: UiError, #[prop(optional, into)] retry: Option<Callback<()>>) -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let text = problem_text(use_language(), error.problem());
    // The session ended while the page was open.
    let signed_out = error.0.code == "unauthenticated";
    let request = error.0.request_id.filter(|_| error.0.kind == ProblemKind::Internal).map(|id| fill(t.request_id, &[("id", &id)]));
    view! {
        <div class="notice notice-danger" role="alert">
            <Icon glyph=Glyph::Alert/>
            <div class="flex-1">
                <p>{text}</p>
                {request.map(|request| view! { <p class="mt-1 text-xs select-all">{request}</p> })}
            </div>
            {signed_out.then(|| view! { <LinkButton href="/sign-in">{t.sign_in}</LinkButton> })}
            {retry
                .filter(|_| !signed_out)
                .map(|retry| {
                    view! {
                        <Button look=Look::Secondary icon=Glyph::Refresh on:click=move |_| retry.run(())>
                            {t.retry}
                        </Button>
                    }
                })}
        </div>
    }
    .into_any()
}

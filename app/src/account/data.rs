//! Taking the own data along, and bringing it from elsewhere.

use super::api::import_conversations;
use crate::{
    UiError,
    i18n::{account::AccountTexts, fill, number, use_language, use_texts},
    ui::{
        browser::use_hydrated,
        button::{Button, LinkButton},
        icon::Glyph,
        problem::FormProblem,
        toast::use_toasts,
    },
};
use leptos::{ev, html, prelude::*, task::spawn_local};
use wasm_bindgen_futures::JsFuture;

/// Export of everything and import of chats.
#[component]
pub fn DataCard() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    view! {
        <section class="card stack" aria-labelledby="data-title">
            <div>
                <h2 id="data-title" class="card-title">{t.data}</h2>
                <p class="card-lead">{t.data_lead}</p>
            </div>
            <div class="field">
                <div class="row">
                    <LinkButton href="/ui/export/everything" icon=Glyph::Download download=true>
                        {t.export}
                    </LinkButton>
                </div>
                <p class="field-hint">{t.export_hint}</p>
            </div>
            <ImportForm/>
        </section>
    }
    .into_any()
}

/// Reads the chosen file in the browser; `Err` says what to tell the reader.
async fn read_chosen_file(input: Option<web_sys::HtmlInputElement>, t: &AccountTexts) -> Result<String, &'static str> {
    let file = input.and_then(|input| input.files()).and_then(|files| files.get(0)).ok_or(t.import_none)?;
    let text = JsFuture::from(file.text()).await.map_err(|_| t.import_unreadable)?;
    text.as_string().ok_or(t.import_unreadable)
}

#[component]
fn ImportForm() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let language = use_language();
    let toasts = use_toasts();
    let hydrated = use_hydrated();
    let file = NodeRef::<html::Input>::new();
    let busy = RwSignal::new(false);
    let wrong_file = RwSignal::new(None::<&'static str>);
    let failure = RwSignal::new(None::<UiError>);
    let conversations = crate::chat::use_conversations();
    let submit = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        failure.set(None);
        wrong_file.set(None);
        spawn_local(async move {
            match read_chosen_file(file.get_untracked(), t).await {
                Ok(json) => match import_conversations(json).await {
                    Ok(done) => {
                        let values =
                            [("chats", number(language, done.conversations.into())), ("messages", number(language, done.messages.into()))];
                        toasts.show(fill(t.imported, &[(values[0].0, &values[0].1), (values[1].0, &values[1].1)]));
                        conversations.refresh();
                        if let Some(input) = file.get_untracked() {
                            input.set_value("");
                        }
                    }
                    Err(error) => failure.set(Some(error)),
                },
                Err(text) => wrong_file.set(Some(text)),
            }
            busy.set(false);
        });
    };
    view! {
        <form class="field" method="post" novalidate on:submit=submit>
            <label for="import" class="field-label">
                {t.import_file}
            </label>
            <div class="file-drop">
                <input
                    node_ref=file
                    id="import"
                    type="file"
                    accept="application/json,.json"
                    class="input max-w-md"
                    aria-describedby="import-hint import-error"
                />
                <Button submit=true icon=Glyph::Upload disabled=Signal::derive(move || busy.get() || !hydrated.get())>
                    {move || if busy.get() { t.importing } else { t.import }}
                </Button>
            </div>
            <p id="import-hint" class="field-hint">
                {t.import_hint}
            </p>
            <p id="import-error" class="field-error" role="alert">
                {move || wrong_file.get()}
            </p>
            <FormProblem failure/>
        </form>
    }
    .into_any()
}

//! System prompt and sampling of one chat.

use super::{actions::Actions, api};
use crate::{
    UiError,
    i18n::{CommonTexts, chat::ChatTexts, use_language, use_texts},
    lazy::{lazy_part, when_arrived},
    ui::{
        button::{Button, IconButton, Look},
        dialog::Dialog,
        field::{TextArea, TextField},
        icon::Glyph,
        problem::{Failure, FormProblem, field_problem},
    },
};
use contract::{
    account::Language,
    chat::{ConversationChange, ConversationSettings},
    model::Sampling,
    problem::{Problem, ProblemKind},
};
use leptos::{prelude::*, task::spawn_local};
use std::str::FromStr;

/// Stores settings with the conversation; for a chat that does not exist yet they wait for its first
/// question. `done` runs when they hold.
pub fn save_settings(actions: Actions, settings: ConversationSettings, done: impl FnOnce() + 'static) {
    save(actions, settings, move |result| match result {
        Ok(()) => done(),
        Err(error) => actions.fail(error),
    });
}

fn save(actions: Actions, settings: ConversationSettings, done: impl FnOnce(Result<(), UiError>) + 'static) {
    let chat = actions.chat;
    let Some(id) = chat.id.get_untracked() else {
        chat.settings.set(settings);
        done(Ok(()));
        return;
    };
    spawn_local(async move {
        let change = ConversationChange { settings: Some(settings.clone()), ..ConversationChange::default() };
        match api::change_conversation(id, change).await {
            Ok(_) => {
                if chat.id.get_untracked() == Some(id) {
                    chat.settings.set(settings);
                }
                done(Ok(()));
            }
            Err(error) => done(Err(error)),
        }
    });
}

lazy_part!(static PANEL = settings_panel: show as fn(Actions, RwSignal<bool>) -> AnyView);

fn show(actions: Actions, open: RwSignal<bool>) -> AnyView {
    view! { <Panel actions open/> }.into_any()
}

/// The button that opens the panel; it stays pressed while a setting differs from the default.
#[component]
pub fn SettingsButton(actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let open = RwSignal::new(false);
    let changed = Signal::derive(move || {
        actions.chat.settings.with(|settings| !settings.system_prompt.is_empty() || settings.sampling != Sampling::default())
    });
    view! {
        <IconButton glyph=Glyph::Sliders label=t.settings pressed=changed on:click=move |_| open.set(true)/>
        <Dialog open title=t.settings>{when_arrived(&PANEL, move |show| show(actions, open))}</Dialog>
    }
    .into_any()
}

/// What is typed into the panel; empty means the model's default.
#[derive(Clone, Copy)]
struct Form {
    system_prompt: RwSignal<String>,
    temperature: RwSignal<String>,
    top_p: RwSignal<String>,
    top_k: RwSignal<String>,
    min_p: RwSignal<String>,
    repeat_penalty: RwSignal<String>,
    max_tokens: RwSignal<String>,
    seed: RwSignal<String>,
}

const FIELDS: [&str; 8] = ["system_prompt", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens", "seed"];

impl Form {
    fn of(settings: &ConversationSettings, language: Language) -> Self {
        let sampling = &settings.sampling;
        let float = |value: Option<f32>| RwSignal::new(value.map(|value| local_float(value, language)).unwrap_or_default());
        let whole = |value: Option<u32>| RwSignal::new(value.map(|value| value.to_string()).unwrap_or_default());
        Self {
            system_prompt: RwSignal::new(settings.system_prompt.clone()),
            temperature: float(sampling.temperature),
            top_p: float(sampling.top_p),
            top_k: whole(sampling.top_k),
            min_p: float(sampling.min_p),
            repeat_penalty: float(sampling.repeat_penalty),
            max_tokens: whole(sampling.max_tokens),
            seed: whole(sampling.seed),
        }
    }

    fn clear(self) {
        for field in
            [self.system_prompt, self.temperature, self.top_p, self.top_k, self.min_p, self.repeat_penalty, self.max_tokens, self.seed]
        {
            field.set(String::new());
        }
    }

    fn sampling(self) -> Result<Sampling, UiError> {
        Ok(Sampling {
            temperature: ranged(self.temperature, "temperature", 0.0, 2.0)?,
            top_p: ranged(self.top_p, "top_p", 0.0, 1.0)?,
            top_k: number(self.top_k, "top_k")?,
            min_p: ranged(self.min_p, "min_p", 0.0, 1.0)?,
            repeat_penalty: ranged(self.repeat_penalty, "repeat_penalty", 1.0, 2.0)?,
            seed: number(self.seed, "seed")?,
            max_tokens: number(self.max_tokens, "max_tokens")?,
            ..Sampling::default()
        })
    }
}

fn local_float(value: f32, language: Language) -> String {
    match language {
        Language::En => value.to_string(),
        Language::De => value.to_string().replace('.', ","),
    }
}

/// What a field holds; a comma is a decimal point too.
fn parse<T: FromStr>(text: &str) -> Option<Option<T>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    text.replace(',', ".").parse().ok().map(Some)
}

fn number<T: FromStr>(field: RwSignal<String>, name: &str) -> Result<Option<T>, UiError> {
    field.with_untracked(|text| parse(text)).ok_or_else(|| bad_number(name))
}

fn ranged(field: RwSignal<String>, name: &str, low: f32, high: f32) -> Result<Option<f32>, UiError> {
    let value = number::<f32>(field, name)?;
    if value.is_some_and(|value| !(low..=high).contains(&value)) { Err(bad_number(name)) } else { Ok(value) }
}

fn bad_number(field: &str) -> UiError {
    let mut problem = Problem::new(ProblemKind::Invalid, "bad_number", "This is not a number in the allowed range.");
    problem.field = Some(field.to_owned());
    UiError(problem)
}

#[component]
fn Panel(actions: Actions, open: RwSignal<bool>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let common = use_texts::<CommonTexts>();
    let chat = actions.chat;
    let form = chat.settings.with_untracked(|settings| Form::of(settings, use_language()));
    let failure: Failure = RwSignal::new(None);
    let saving = RwSignal::new(false);
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        failure.set(None);
        let sampling = match form.sampling() {
            Ok(sampling) => sampling,
            Err(error) => return failure.set(Some(error)),
        };
        let settings = ConversationSettings {
            model: chat.settings.with_untracked(|settings| settings.model.clone()),
            system_prompt: form.system_prompt.get_untracked(),
            sampling,
        };
        saving.set(true);
        save(actions, settings, move |result| {
            // The dialog may have been closed meanwhile.
            let _unused = saving.try_set(false);
            match result {
                Ok(()) => open.set(false),
                Err(error) => {
                    let _unused = failure.try_set(Some(error));
                }
            }
        });
    };
    let small = move |name: &'static str, label: &'static str, hint: &'static str, value: RwSignal<String>| {
        view! { <TextField name label hint value placeholder=t.model_default error=field_problem(failure, name)/> }
    };
    view! {
        <form class="stack" on:submit=submit novalidate=true>
            <p class="card-lead">{t.settings_lead}</p>
            <FormProblem failure fields=&FIELDS/>
            <TextArea name="system_prompt" label=t.system_prompt hint=t.system_prompt_hint value=form.system_prompt rows=5 error=field_problem(failure, "system_prompt")/>
            <div class="form-grid">
                {small("temperature", t.temperature, t.temperature_hint, form.temperature)}
                {small("max_tokens", t.max_tokens, t.max_tokens_hint, form.max_tokens)}
                {small("top_p", t.top_p, t.top_p_hint, form.top_p)}
                {small("top_k", t.top_k, t.top_k_hint, form.top_k)}
                {small("min_p", t.min_p, t.min_p_hint, form.min_p)}
                {small("repeat_penalty", t.repeat_penalty, t.repeat_penalty_hint, form.repeat_penalty)}
                {small("seed", t.seed, t.seed_hint, form.seed)}
            </div>
            <div class="dialog-actions">
                <Button look=Look::Quiet icon=Glyph::Undo on:click=move |_| form.clear()>
                    {t.reset_settings}
                </Button>
                <Button look=Look::Primary submit=true disabled=saving>
                    {common.save}
                </Button>
            </div>
        </form>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::{local_float, parse};
    use contract::account::Language;

    #[test]
    fn chat_settings_read_both_decimal_signs_and_empty_as_default() {
        assert_eq!(parse::<f32>(" 0,7 "), Some(Some(0.7)));
        assert_eq!(parse::<f32>("0.7"), Some(Some(0.7)));
        assert_eq!(parse::<u32>(""), Some(None));
        assert_eq!(parse::<u32>("1.5"), None);
        assert_eq!(parse::<u32>("-1"), None);
        assert_eq!(local_float(0.7, Language::De), "0,7");
    }
}

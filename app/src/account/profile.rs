//! *Profile*: name, language, theme, default model, standing instructions; below it password, data
//! and the end of the account.

use super::{api::change_profile, data::DataCard, delete::DeleteCard, password::PasswordCard};
use crate::{
    UiError,
    chat::api::list_models,
    i18n::{CommonTexts, account::AccountTexts, tag, use_texts},
    ui::{
        browser::{reload_page, use_hydrated},
        button::{Button, Look},
        field::{Select, TextArea, TextField},
        icon::{Glyph, Icon},
        problem::{FormProblem, ProblemNotice, field_problem},
        toast::use_toasts,
    },
    viewer::{theme_name, use_viewer},
};
use contract::account::{Language, Me, Profile, Theme};
use leptos::{ev, prelude::*, task::spawn_local};
use leptos_meta::Title;

/// `/account/profile`.
#[component]
pub fn ProfileTab() -> impl IntoView {
    let common = use_texts::<CommonTexts>();
    // Read once: the forms keep what is being edited when the profile is saved elsewhere (theme menu).
    let me = use_viewer().me.get_untracked();
    let body = match me {
        Some(me) => view! {
            <div class="stack-lg">
                <ProfileForm me/>
                <PasswordCard/>
                <DataCard/>
                <DeleteCard/>
            </div>
        }
        .into_any(),
        None => view! { <ProblemNotice error=signed_out()/> }.into_any(),
    };
    view! {
        <Title text=common.profile/>
        {body}
    }
    .into_any()
}

fn signed_out() -> UiError {
    UiError(contract::problem::Problem::new(contract::problem::ProblemKind::Unauthenticated, "unauthenticated", "Sign in to continue."))
}

const LANGUAGES: [Language; 2] = [Language::En, Language::De];
const FIELDS: &[&str] = &["name", "default_model", "instructions"];

#[component]
fn ProfileForm(me: Me) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let viewer = use_viewer();
    let toasts = use_toasts();
    let hydrated = use_hydrated();
    let Profile { name, language, theme: _, default_model, instructions } = me.profile;
    let name = RwSignal::new(name);
    let language = RwSignal::new(language.map(tag).unwrap_or_default().to_owned());
    let model = RwSignal::new(default_model.unwrap_or_default());
    let instructions = RwSignal::new(instructions);
    let busy = RwSignal::new(false);
    let failure = RwSignal::new(None::<UiError>);

    // A theme that was looked at but not saved goes when the page is left.
    on_cleanup(move || {
        if let Some(Some(saved)) = viewer.me.try_with_untracked(|me| me.as_ref().map(|me| me.profile.theme)) {
            viewer.theme.set(saved);
        }
    });
    let submit = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        failure.set(None);
        let profile = Profile {
            name: name.get_untracked().trim().to_owned(),
            language: LANGUAGES.into_iter().find(|one| tag(*one) == language.get_untracked()),
            theme: viewer.theme.get_untracked(),
            default_model: Some(model.get_untracked()).filter(|model| !model.is_empty()),
            instructions: instructions.get_untracked(),
        };
        let before = viewer.me.with_untracked(|me| me.as_ref().and_then(|me| me.profile.language));
        spawn_local(async move {
            match change_profile(profile).await {
                // Which one the browser asks for, only the server hears.
                Ok(profile) if profile.language != before && profile.language != Some(viewer.language) => reload_page(),
                Ok(profile) => {
                    viewer.me.update(|me| {
                        if let Some(me) = me {
                            me.profile = profile;
                        }
                    });
                    toasts.show(t.profile_saved);
                }
                Err(error) => failure.set(Some(error)),
            }
            busy.set(false);
        });
    };
    let named = |language| match language {
        Language::En => "English",
        Language::De => "Deutsch",
    };
    let languages = LANGUAGES.map(|language| (tag(language).to_owned(), named(language).to_owned()));
    let languages: Vec<(String, String)> = [(String::new(), t.language_of_browser.to_owned())].into_iter().chain(languages).collect();
    view! {
        <form class="stack-lg" method="post" novalidate on:submit=submit>
            <section class="card stack" aria-labelledby="personal">
                <div>
                    <h2 id="personal" class="card-title">{t.personal}</h2>
                    <p class="card-lead">{t.personal_lead}</p>
                </div>
                <div class="form-grid">
                    <TextField name="name" label=t.name value=name autocomplete="name" error=field_problem(failure, "name") max_length=100/>
                    <div class="field">
                        <span class="field-label">{t.email}</span>
                        <span class="py-1.5">{me.email}</span>
                        <span class="field-hint">{t.email_hint}</span>
                    </div>
                </div>
                <div class="form-grid">
                    <Select name="language" label=t.language value=language options=languages hint=t.language_hint/>
                </div>
                <ThemeChoice/>
            </section>
            <section class="card stack" aria-labelledby="chats">
                <div>
                    <h2 id="chats" class="card-title">{t.chats}</h2>
                    <p class="card-lead">{t.chats_lead}</p>
                </div>
                <ModelSelect model failure/>
                <TextArea
                    name="instructions"
                    label=t.instructions
                    value=instructions
                    rows=5
                    hint=t.instructions_hint
                    placeholder=t.instructions_example
                    error=field_problem(failure, "instructions")
                />
            </section>
            <FormProblem failure fields=FIELDS/>
            <div class="row">
                <Button look=Look::Primary submit=true disabled=Signal::derive(move || busy.get() || !hydrated.get())>
                    {common.save}
                </Button>
            </div>
        </form>
    }
    .into_any()
}

/// The models of the catalogue. If they cannot be loaded, the present choice stays the only one.
#[component]
fn ModelSelect(model: RwSignal<String>, failure: RwSignal<Option<UiError>>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let has_chats = use_viewer().has_chats();
    let models = Resource::new(|| (), move |()| async move { if has_chats { list_models().await } else { Ok(Vec::new()) } });
    view! {
        <div class="form-grid">
            <Suspense fallback=|| view! { <span class="skeleton h-16 w-full" aria-hidden="true"></span> }>
                {move || Suspend::new(async move {
                    let mut options = vec![(String::new(), t.default_model_platform.to_owned())];
                    let mut hint = None;
                    match models.await {
                        Ok(models) => options.extend(models.into_iter().map(|model| (model.id, model.name))),
                        Err(_) => hint = Some(t.models_failed),
                    }
                    let current = model.get_untracked();
                    if !options.iter().any(|(id, _)| *id == current) {
                        options.push((current.clone(), current));
                    }
                    view! { <Select name="default_model" label=t.default_model value=model options hint=hint.unwrap_or_default() error=field_problem(failure, "default_model")/> }
                })}
            </Suspense>
        </div>
    }
    .into_any()
}

/// The themes; choosing one shows it at once.
#[component]
fn ThemeChoice() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let theme = use_viewer().theme;
    let choices = [
        (Theme::System, common.theme_system, Glyph::Monitor),
        (Theme::Light, common.theme_light, Glyph::Sun),
        (Theme::Dark, common.theme_dark, Glyph::Moon),
        (Theme::Contrast, common.theme_contrast, Glyph::Contrast),
    ]
    .into_iter()
    .map(|(choice, label, glyph)| {
        view! {
            <label class="choice">
                <input
                    type="radio"
                    name="theme"
                    value=theme_name(choice)
                    checked=theme.get_untracked() == choice
                    prop:checked=move || theme.get() == choice
                    on:change=move |_| theme.set(choice)
                />
                <Icon glyph size=16/>
                {label}
            </label>
        }
    })
    .collect_view();
    view! {
        <fieldset class="field" aria-describedby="theme-hint">
            <legend class="field-label mb-1.5">{common.theme}</legend>
            <div class="choices">{choices}</div>
            <p id="theme-hint" class="field-hint">
                {t.theme_hint}
            </p>
        </fieldset>
    }
    .into_any()
}

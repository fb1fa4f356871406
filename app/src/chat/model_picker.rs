//! Which model answers.

use super::{actions::Actions, settings_panel::save_settings};
use crate::{
    i18n::{chat::ChatTexts, fill, use_texts},
    ui::{
        icon::{Glyph, Icon},
        menu::{Menu, MenuChoice, Placement},
    },
    viewer::use_viewer,
};
use leptos::prelude::*;

/// A menu of the models on offer.
#[component]
pub fn ModelPicker(actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let chat = actions.chat;
    let viewer = use_viewer();
    let current = Memo::new(move |_| chat.model(viewer.default_model()));
    let name = move || current.with(|model| model.as_ref().map_or_else(|| t.no_model.to_owned(), |model| model.name.clone()));
    let label = Signal::derive(move || fill(t.model_label, &[("name", &name())]));
    let choose = move |id: String| {
        let mut settings = chat.settings.get_untracked();
        settings.model = Some(id);
        save_settings(actions, settings, || {});
    };
    let choices = move || {
        chat.models
            .get()
            .into_iter()
            .map(|model| {
                let (id, chosen) = (model.id.clone(), model.id.clone());
                let label = if model.ready { model.name } else { fill(t.model_not_ready, &[("name", &model.name)]) };
                view! {
                    <MenuChoice
                        label
                        closes=true
                        checked=Signal::derive(move || current.with(|current| current.as_ref().is_some_and(|current| current.id == chosen)))
                        on_select=Callback::new(move |()| choose(id.clone()))
                    />
                }
            })
            .collect_view()
    };
    let trigger = move || {
        view! {
            <span class="truncate">{name}</span>
            <Icon glyph=Glyph::ChevronDown size=14/>
        }
    };
    view! {
        <Menu label button_class="model-button" placement=Placement::AboveStart trigger>
            {choices}
        </Menu>
    }
    .into_any()
}

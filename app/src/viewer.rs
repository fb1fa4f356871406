//! Who looks at the page, and how they want it: the signed-in person, language and theme.
//!
//! The server knows this before it renders (see `edge::load_visitor`) and ships it with the page, so
//! both sides render the same first view without a round trip.

use crate::UiError;
use contract::account::{Language, Me, Role, Theme};
use leptos::prelude::*;
use serde::{Deserialize, Serialize};

/// What the server tells the page about its reader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Visitor {
    /// The signed-in person; `None` on the sign-in page.
    pub me: Option<Me>,
    /// From the profile, or from `Accept-Language` when signed out or none was chosen.
    pub language: Language,
    /// On the sign-in page, when it answers its own form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedSignIn>,
}

/// An attempt to sign in that came as a form of the browser's, without our script, and failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedSignIn {
    /// As it was entered, so that nobody types it again.
    pub email: String,
    /// Why.
    pub error: UiError,
}

/// The page's reader, in context of every component.
#[derive(Clone, Copy, Debug)]
pub struct Viewer {
    /// The signed-in person. Changes when the profile is saved.
    pub me: RwSignal<Option<Me>>,
    /// Fixed for the life of the page: changing the language loads it anew.
    pub language: Language,
    /// What the page shows now; the profile form previews a theme here before it is saved.
    pub theme: RwSignal<Theme>,
    /// What the sign-in page answers; never changes.
    pub refused: RwSignal<Option<RefusedSignIn>>,
}

impl Viewer {
    fn of(visitor: Visitor) -> Self {
        let theme = visitor.me.as_ref().map(|me| me.profile.theme).unwrap_or_default();
        Self {
            me: RwSignal::new(visitor.me),
            language: visitor.language,
            theme: RwSignal::new(theme),
            refused: RwSignal::new(visitor.refused),
        }
    }

    /// May have chats. Administrators need not be users, and calls about chats are refused to them.
    #[must_use]
    pub fn has_chats(&self) -> bool {
        self.me.with_untracked(|me| me.as_ref().is_some_and(|me| me.roles.contains(&Role::User)))
    }

    /// The model a new chat takes unless the chat says otherwise.
    #[must_use]
    pub fn default_model(&self) -> Option<String> {
        self.me.with(|me| me.as_ref().and_then(|me| me.profile.default_model.clone()))
    }
}

/// The reader of this page; signed out and English where nothing was provided (tests, route listing).
#[must_use]
pub fn use_viewer() -> Viewer {
    use_context::<Viewer>().unwrap_or_else(|| Viewer::of(Visitor::default()))
}

/// Puts the [`Viewer`] into context: taken from the request on the server, from the page in the browser.
pub(crate) fn provide_viewer() {
    let viewer = Viewer::of(SharedValue::new(current_visitor).into_inner());
    provide_context(viewer);
}

/// The visitor of this request. In the browser only the value shipped with the page is used.
pub(crate) fn current_visitor() -> Visitor {
    #[cfg(feature = "ssr")]
    {
        crate::edge::visitor()
    }
    #[cfg(not(feature = "ssr"))]
    {
        Visitor::default()
    }
}

/// The value of `<html data-theme>`.
#[must_use]
pub fn theme_name(theme: Theme) -> &'static str {
    match theme {
        Theme::System => "system",
        Theme::Light => "light",
        Theme::Dark => "dark",
        Theme::Contrast => "contrast",
    }
}

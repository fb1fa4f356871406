//! Applies the viewer's theme to the document.

use crate::viewer::{theme_name, use_viewer};
use leptos::prelude::*;

/// Keeps `<html data-theme>` in step with the viewer's theme. The server renders the first value.
#[component]
pub fn ThemeRoot() -> impl IntoView {
    let theme = use_viewer().theme;
    Effect::new(move |_| {
        let name = theme_name(theme.get());
        if let Some(root) = document().document_element() {
            // Fails for an invalid attribute name only.
            let _unused = root.set_attribute("data-theme", name);
        }
    });
}

//! The document around the application: head, language, theme.

use crate::{
    App,
    i18n::tag,
    viewer::{current_visitor, theme_name},
};
use leptos::prelude::*;
use leptos_meta::{HashedStylesheet, MetaTags};

/// The whole HTML document, rendered on the server only.
pub fn shell(options: LeptosOptions) -> impl IntoView {
    let visitor = current_visitor();
    let theme = visitor.me.as_ref().map(|me| me.profile.theme).unwrap_or_default();
    view! {
        <!DOCTYPE html>
        <html lang=tag(visitor.language) data-theme=theme_name(theme)>
            <head>
                <meta charset="utf-8"/>
                <meta name="viewport" content="width=device-width, initial-scale=1, interactive-widget=resizes-content"/>
                <meta name="color-scheme" content="light dark"/>
                <meta name="theme-color" media="(prefers-color-scheme: light)" content="#f7f7f5"/>
                <meta name="theme-color" media="(prefers-color-scheme: dark)" content="#16181d"/>
                <meta name="robots" content="noindex"/>
                <link rel="icon" type="image/svg+xml" href="/favicon.svg"/>
                <HashedStylesheet options=options.clone() id="style"/>
                <HydrationScripts options/>
                <MetaTags/>
            </head>
            <body>
                <App/>
            </body>
        </html>
    }
}

//! The browser's entry: takes over the page that the server rendered.

use leptos::{mount::hydrate_from_async, prelude::document};
use wasm_bindgen::prelude::wasm_bindgen;

/// Called by the page once the bundle is loaded. Afterwards `<html>` bears the attribute `data-hydrated`: the page
/// reacts to people, and to tests.
#[wasm_bindgen]
pub async fn hydrate() {
    console_error_panic_hook::set_once();
    let Some(body) = document().body() else { return };
    app::prepare().await;
    hydrate_from_async(body, app::App).await.forget();
    if let Some(root) = document().document_element() {
        // Fails for malformed names only.
        drop(root.set_attribute("data-hydrated", ""));
    }
}

//! Pages and server functions: the interface mounted on axum.

use super::{assets::Site, headers, state::AppState};
use app::{App, edge};
use axum::{Router, middleware::from_fn_with_state};
use leptos_axum::LeptosRoutes;

/// All pages of the interface and all its server functions. An unknown address renders the *not found* page.
pub fn routes(site: &Site, state: &AppState) -> Router {
    let shared = edge::context(state.services.clone(), state.identity.clone(), state.cookies);
    let context = move || {
        shared();
        headers::page_policy();
    };
    let options = site.options.clone();
    let page = {
        let options = options.clone();
        move || app::shell(options.clone())
    };
    Router::new()
        .leptos_routes_with_context(&options, leptos_axum::generate_route_list(App), context.clone(), page.clone())
        .fallback(leptos_axum::render_app_async_with_context(context, page))
        .layer(from_fn_with_state(state.services.clone(), edge::load_visitor))
        .with_state(options)
}

//! Pages and server functions: the interface mounted on axum.

use super::{assets::Site, csrf::SIGN_IN, headers, state::AppState};
use app::{App, edge, sign_in::form};
use axum::{Router, middleware::from_fn_with_state, routing::post};
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
    let render = leptos_axum::render_app_async_with_context(context.clone(), page.clone());
    // The sign-in form, sent by a browser without our script: the answer is a page as well.
    let sign_in = post(render.clone()).route_layer(from_fn_with_state((state.identity.clone(), state.cookies), form::receive));
    Router::new()
        .leptos_routes_with_context(&options, leptos_axum::generate_route_list(App), context, page)
        .route(SIGN_IN, sign_in)
        .fallback(render)
        .layer(from_fn_with_state(state.services.clone(), edge::load_visitor))
        .with_state(options)
}

//! The pages and their addresses.

use crate::{
    account::{AccountPage, ProfileTab, PromptsTab, SessionsTab, UsageTab},
    chat::ChatPage,
    i18n::{CommonTexts, use_texts},
    lazy::lazy_pages,
    search::SearchPage,
    sign_in::SignInPage,
    ui::{
        button::LinkButton,
        empty::EmptyState,
        icon::Glyph,
        layout::AppLayout,
        live::LiveRegion,
        shortcuts::{ShortcutSheet, provide_shortcuts},
        theme::ThemeRoot,
        toast::{Toaster, provide_toasts},
    },
    viewer::provide_viewer,
};
use leptos::prelude::*;
use leptos_meta::{Title, provide_meta_context};
use leptos_router::{
    Lazy, SsrMode,
    components::{Outlet, ParentRoute, Redirect, Route, Router, Routes},
    path,
};

lazy_pages! {
    LazySignIn => SignInPage,
    LazySearch => SearchPage,
    LazyAccount => AccountPage,
    LazyProfile => ProfileTab,
    LazyPrompts => PromptsTab,
    LazyUsage => UsageTab,
    LazySessions => SessionsTab,
}

/// The application. Runs on the server for every page and in the browser once.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    provide_viewer();
    provide_toasts();
    provide_shortcuts();
    crate::ui::live::provide_live_region();
    view! {
        <Title formatter=|title: String| if title.is_empty() { "Kontor".to_owned() } else { format!("{title} · Kontor") }/>
        <ThemeRoot/>
        <Router>
            <Pages/>
            <ShortcutSheet/>
        </Router>
        <Toaster/>
        <LiveRegion/>
    }
}

/// Every page answers in one piece ([`SsrMode::Async`]): the status code is right, nothing is
/// swapped in by inline scripts, and the page is readable without a script.
#[component]
fn Pages() -> impl IntoView {
    view! {
        <Routes fallback=NotFoundPage>
            <Route path=path!("/sign-in") view={Lazy::<LazySignIn>::new()} ssr=SsrMode::Async/>
            <ParentRoute path=path!("") view=AppLayout ssr=SsrMode::Async>
                // One parent for both addresses: going from `/` to `/c/{id}` keeps the page mounted.
                <ParentRoute path=path!("") view=ChatRoot ssr=SsrMode::Async>
                    <Route path=path!("") view=|| () ssr=SsrMode::Async/>
                    <Route path=path!("c/:conversation") view=|| () ssr=SsrMode::Async/>
                </ParentRoute>
                <Route path=path!("search") view={Lazy::<LazySearch>::new()} ssr=SsrMode::Async/>
                <ParentRoute path=path!("account") view={Lazy::<LazyAccount>::new()} ssr=SsrMode::Async>
                    <Route path=path!("") view=|| view! { <Redirect path="/account/profile"/> } ssr=SsrMode::Async/>
                    <Route path=path!("profile") view={Lazy::<LazyProfile>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("prompts") view={Lazy::<LazyPrompts>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("usage") view={Lazy::<LazyUsage>::new()} ssr=SsrMode::Async/>
                    <Route path=path!("sessions") view={Lazy::<LazySessions>::new()} ssr=SsrMode::Async/>
                </ParentRoute>
            </ParentRoute>
        </Routes>
    }
    .into_any()
}

/// The chat page reads the conversation from the address; the child routes only name it.
#[component]
fn ChatRoot() -> impl IntoView {
    view! {
        <ChatPage/>
        <Outlet/>
    }
    .into_any()
}

/// Shown (with status 404) for an address that leads nowhere.
#[component]
pub fn NotFoundPage() -> impl IntoView {
    #[cfg(feature = "ssr")]
    crate::edge::set_status(404);
    let t = use_texts::<CommonTexts>();
    view! {
        <Title text=t.not_found_title/>
        <main id="content" class="grid min-h-dvh place-items-center p-6" tabindex="-1">
            <h1 class="sr-only">"Kontor"</h1>
            <EmptyState icon=Glyph::Compass title=t.not_found_title text=t.not_found_text>
                <LinkButton href="/">{t.to_start}</LinkButton>
            </EmptyState>
        </main>
    }
    .into_any()
}

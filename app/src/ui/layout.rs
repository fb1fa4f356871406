//! The frame around the pages: side bar (a drawer on small screens), account menu, skip link.

use super::{
    button::IconButton,
    icon::{Glyph, Icon},
    menu::{Menu, MenuChoice, MenuItem, MenuLink, MenuSeparator, Placement},
    shortcuts::{Keys, Shortcut, use_shortcut, use_shortcut_sheet},
    toast::use_toasts,
};
use crate::{
    account::api::change_profile,
    chat::Sidebar,
    i18n::{CommonTexts, use_texts},
    sign_in::leave,
    viewer::use_viewer,
};
use contract::account::Theme;
use leptos::{html, prelude::*, task::spawn_local};
use leptos_router::{components::Outlet, hooks::use_location};

/// What of the frame is open. Pages may change it.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// On small screens: the side bar lies over the page.
    pub drawer_open: RwSignal<bool>,
    /// On wide screens: the side bar is folded away.
    pub sidebar_hidden: RwSignal<bool>,
}

impl Frame {
    /// Shows or hides the side bar in whichever way the screen has it.
    pub fn toggle_sidebar(&self) {
        if is_narrow() {
            self.drawer_open.update(|open| *open = !*open);
        } else {
            self.sidebar_hidden.update(|hidden| *hidden = !*hidden);
        }
    }

    fn show_sidebar(self) {
        if is_narrow() {
            self.drawer_open.set(true);
        } else {
            self.sidebar_hidden.set(false);
        }
    }
}

/// The breakpoint of `components/layout.css`.
fn is_narrow() -> bool {
    window().match_media("(width < 64rem)").ok().flatten().is_some_and(|query| query.matches())
}

/// The frame, inside pages that have one.
#[must_use]
pub fn use_frame() -> Frame {
    use_context().unwrap_or_else(|| Frame { drawer_open: RwSignal::new(false), sidebar_hidden: RwSignal::new(false) })
}

/// Side bar and page.
#[component]
pub fn AppLayout() -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let frame = Frame { drawer_open: RwSignal::new(false), sidebar_hidden: RwSignal::new(false) };
    provide_context(frame);
    crate::chat::provide_conversations();
    let has_chats = use_viewer().has_chats();
    let Frame { drawer_open, sidebar_hidden } = frame;
    use_shortcut(
        Shortcut { keys: Keys::ctrl_shift("s"), group: t.shortcut_group_general, label: t.sidebar_toggle, in_fields: true },
        move || frame.toggle_sidebar(),
    );
    // Whoever follows a link in the drawer wants to see the page.
    let path = use_location().pathname;
    Effect::new(move |_| {
        path.track();
        drawer_open.set(false);
    });
    let aside = NodeRef::<html::Aside>::new();
    Effect::new(move |was_open: Option<bool>| {
        let open = drawer_open.get();
        if open && was_open == Some(false) {
            focus_first(aside);
        }
        open
    });
    view! {
        <a href="#content" class="skip-link btn btn-primary fixed top-2 left-2 z-70" rel="external">
            {t.skip_to_content}
        </a>
        <div
            class="frame"
            data-drawer=move || if drawer_open.get() { "open" } else { "closed" }
            data-sidebar=move || if sidebar_hidden.get() { "hidden" } else { "shown" }
        >
            <aside
                class="frame-sidebar"
                node_ref=aside
                aria-label=t.sidebar
                on:keydown=move |event| {
                    if event.key() == "Escape" && drawer_open.get_untracked() {
                        event.prevent_default();
                        drawer_open.set(false);
                    }
                }
            >
                <div class="frame-brand">
                    <a href="/" class="flex flex-1 items-center gap-2.5">
                        <Logo/>
                        <span>{t.product}</span>
                    </a>
                    <IconButton glyph=Glyph::Panel label=t.close_navigation on:click=move |_| frame.toggle_sidebar()/>
                </div>
                <div class="flex min-h-0 flex-1 flex-col">
                    {has_chats.then(|| view! { <Sidebar/> })}
                </div>
                <div class="frame-foot">
                    <AccountMenu/>
                </div>
            </aside>
            <button type="button" class="frame-backdrop" tabindex="-1" aria-hidden="true" on:click=move |_| drawer_open.set(false)></button>
            <div class="frame-main">
                <header class="frame-topbar">
                    <IconButton glyph=Glyph::Menu label=t.open_navigation on:click=move |_| frame.show_sidebar()/>
                    <span class="font-semibold">{t.product}</span>
                </header>
                <main id="content" class="frame-content" tabindex="-1">
                    <Outlet/>
                </main>
            </div>
        </div>
    }
    .into_any()
}

fn focus_first(aside: NodeRef<html::Aside>) {
    use wasm_bindgen::JsCast;
    let first = aside.get_untracked().and_then(|aside| aside.query_selector("a, button").ok().flatten());
    if let Some(first) = first.and_then(|first| first.dyn_into::<web_sys::HtmlElement>().ok()) {
        super::browser::focus(&first);
    }
}

/// The product's sign.
#[component]
pub fn Logo() -> impl IntoView {
    view! {
        <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
            <rect width="32" height="32" rx="8" class="fill-accent"></rect>
            <path d="M10 8v16M22 8.5 12.500 16l9.500 8" fill="none" class="stroke-on-accent" stroke-width="3.2" stroke-linecap="round" stroke-linejoin="round"></path>
        </svg>
    }
    .into_any()
}

/// Who is signed in, and what they can do about themselves.
#[component]
fn AccountMenu() -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let viewer = use_viewer();
    let sheet = use_shortcut_sheet();
    let toasts = use_toasts();
    let name = move || viewer.me.with(|me| me.as_ref().map(display_name).unwrap_or_default());
    let tenant = move || viewer.me.with(|me| me.as_ref().map(|me| me.tenant_name.clone()).unwrap_or_default());
    let initial = move || name().chars().next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let choose_theme = move |theme: Theme| {
        viewer.theme.set(theme);
        let Some(me) = viewer.me.get_untracked() else { return };
        let mut profile = me.profile;
        profile.theme = theme;
        spawn_local(async move {
            match change_profile(profile).await {
                Ok(profile) => viewer.me.update(|me| {
                    if let Some(me) = me {
                        me.profile = profile;
                    }
                }),
                Err(error) => toasts.show_problem(&error),
            }
        });
    };
    let themes = move || {
        [
            (Theme::System, t.theme_system, Glyph::Monitor),
            (Theme::Light, t.theme_light, Glyph::Sun),
            (Theme::Dark, t.theme_dark, Glyph::Moon),
            (Theme::Contrast, t.theme_contrast, Glyph::Contrast),
        ]
        .into_iter()
        .map(|(theme, label, icon)| {
            view! { <MenuChoice label icon checked=Signal::derive(move || viewer.theme.get() == theme) on_select=Callback::new(move |()| choose_theme(theme))/> }
        })
        .collect_view()
    };
    let trigger = move || {
        view! {
            <span class="avatar" aria-hidden="true">
                {initial}
            </span>
            <span class="min-w-0 flex-1">
                <span class="block truncate text-sm font-medium">{name}</span>
                <span class="block truncate text-xs text-faint">{tenant}</span>
                <span class="sr-only">{t.account_menu}</span>
            </span>
            <Icon glyph=Glyph::ChevronUp size=16/>
        }
    };
    view! {
        <Menu label=t.account_menu named_by_trigger=true button_class="account-button" placement=Placement::AboveStart trigger>
            <MenuLink label=t.profile href="/account/profile" icon=Glyph::User/>
            <MenuLink label=t.prompt_history href="/account/prompts" icon=Glyph::History/>
            <MenuLink label=t.usage href="/account/usage" icon=Glyph::Chart/>
            <MenuLink label=t.sessions href="/account/sessions" icon=Glyph::Monitor/>
            <MenuSeparator/>
            <div role="group" aria-label=t.theme>
                <div class="menu-heading" aria-hidden="true">
                    {t.theme}
                </div>
                {themes}
            </div>
            <MenuSeparator/>
            <MenuItem label=t.shortcuts icon=Glyph::Keyboard on_select=Callback::new(move |()| sheet.set(true))/>
            <MenuItem label=t.sign_out icon=Glyph::SignOut on_select=Callback::new(move |()| leave(toasts))/>
        </Menu>
    }
    .into_any()
}

fn display_name(me: &contract::account::Me) -> String {
    if me.profile.name.trim().is_empty() { me.email.clone() } else { me.profile.name.clone() }
}

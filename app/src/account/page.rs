//! The account area's frame: heading and tabs.

use crate::{
    i18n::{CommonTexts, account::AccountTexts, use_texts},
    ui::tabs::{Tab, Tabs},
};
use leptos::prelude::*;
use leptos_router::{components::Outlet, hooks::use_location};

/// `/account/…`.
#[component]
pub fn AccountPage() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let tabs = vec![
        Tab { id: "profile", href: "/account/profile", label: common.profile },
        Tab { id: "prompts", href: "/account/prompts", label: common.prompt_history },
        Tab { id: "usage", href: "/account/usage", label: common.usage },
        Tab { id: "sessions", href: "/account/sessions", label: common.sessions },
    ];
    let ids: Vec<&'static str> = tabs.iter().map(|tab| tab.id).collect();
    let path = use_location().pathname;
    let selected =
        Signal::derive(move || path.with(|path| path.rsplit('/').next().and_then(|last| ids.iter().copied().find(|id| *id == last))));
    view! {
        <div class="page">
            <div class="page-head">
                <h1 class="page-title">{t.title}</h1>
            </div>
            <Tabs label=t.title tabs selected>
                <Outlet/>
            </Tabs>
        </div>
    }
    .into_any()
}

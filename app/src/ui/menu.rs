//! Menus: a button and a list of commands, by mouse and by keyboard (arrows, Home, End, Escape).

use super::{
    browser::focus,
    icon::{Glyph, Icon},
};
use leptos::{context::Provider, ev, html, prelude::*};
use wasm_bindgen::JsCast;

/// Where the list appears, seen from the button.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Below, left edges aligned.
    #[default]
    BelowStart,
    /// Below, right edges aligned.
    BelowEnd,
    /// Above, left edges aligned.
    AboveStart,
    /// Above, right edges aligned.
    AboveEnd,
}

impl Placement {
    fn class(self) -> &'static str {
        match self {
            Self::BelowStart => "menu-panel menu-below menu-start",
            Self::BelowEnd => "menu-panel menu-below menu-end",
            Self::AboveStart => "menu-panel menu-above menu-start",
            Self::AboveEnd => "menu-panel menu-above menu-end",
        }
    }
}

/// Lets an item close the menu it is in.
#[derive(Clone, Copy, Debug)]
struct MenuState {
    open: RwSignal<bool>,
    button: NodeRef<html::Button>,
}

impl MenuState {
    fn close(self) {
        self.open.set(false);
        if let Some(button) = self.button.get_untracked() {
            focus(&button);
        }
    }
}

/// A button that opens a menu. `trigger` is what the button shows, `children` are [`MenuItem`]s,
/// [`MenuLink`]s and [`MenuSeparator`]s.
#[component]
pub fn Menu(
    /// Name of the button and of the menu.
    #[prop(into)]
    label: Signal<String>,
    /// The button's name is the text in `trigger` (which then contains `label`, if need be unseen).
    #[prop(optional)]
    named_by_trigger: bool,
    #[prop(default = "icon-btn")] button_class: &'static str,
    #[prop(optional)] placement: Placement,
    #[prop(into)] trigger: ViewFn,
    children: ChildrenFn,
) -> impl IntoView {
    let open = RwSignal::new(false);
    let root = NodeRef::<html::Div>::new();
    let button = NodeRef::<html::Button>::new();
    let panel = NodeRef::<html::Div>::new();
    let state = MenuState { open, button };
    // Shown anew each time the menu opens.
    let children = StoredValue::new(children);
    // Runs when the panel appears.
    Effect::new(move |_| {
        if let Some(panel) = panel.get() {
            focus_item(&panel, |_, _| 0);
        }
    });
    let open_by_key = move |event: ev::KeyboardEvent| {
        if matches!(event.key().as_str(), "ArrowDown" | "ArrowUp") {
            event.prevent_default();
            open.set(true);
        }
    };
    // The focus went elsewhere (Tab, or a click beside the menu).
    let close_when_left = move |event: ev::FocusEvent| {
        let to = event.related_target().and_then(|target| target.dyn_into::<web_sys::Node>().ok());
        // Taking the menu off the page takes the focus, too, when its state has gone already.
        let Some(root) = root.try_get_untracked() else { return };
        let inside = root.is_some_and(|root| to.is_some_and(|to| root.contains(Some(&to))));
        if !inside {
            open.set(false);
        }
    };
    view! {
        <div class="menu" node_ref=root on:focusout=close_when_left>
            <button
                type="button"
                class=button_class
                node_ref=button
                aria-haspopup="menu"
                aria-expanded=move || open.get().to_string()
                aria-label=move || (!named_by_trigger).then(|| label.get())
                title=move || label.get()
                on:click=move |_| open.update(|open| *open = !*open)
                on:keydown=open_by_key
            >
                {trigger.run()}
            </button>
            <Show when=move || open.get()>
                <div class=placement.class() role="menu" aria-label=move || label.get() node_ref=panel on:keydown=move |event| on_key(&event, state, panel)>
                    <Provider value=state>{children.with_value(|children| children())}</Provider>
                </div>
            </Show>
        </div>
    }
    .into_any()
}

fn on_key(event: &ev::KeyboardEvent, state: MenuState, panel: NodeRef<html::Div>) {
    let Some(panel) = panel.get_untracked() else { return };
    let step: fn(u32, u32) -> u32 = match event.key().as_str() {
        "ArrowDown" => |current, count| (current + 1) % count,
        "ArrowUp" => |current, count| (current + count - 1) % count,
        "Home" => |_, _| 0,
        "End" => |_, count| count - 1,
        "Escape" => {
            event.prevent_default();
            event.stop_propagation();
            state.close();
            return;
        }
        _ => return,
    };
    event.prevent_default();
    focus_item(&panel, step);
}

/// Moves the focus to the item that `step` chooses from the current one's index and the count.
fn focus_item(panel: &web_sys::HtmlElement, step: fn(u32, u32) -> u32) {
    let Ok(items) = panel.query_selector_all("[role^=menuitem]:not([aria-disabled=true])") else { return };
    let count = items.length();
    if count == 0 {
        return;
    }
    let active = document().active_element();
    let current = (0..count).find(|index| items.item(*index).as_ref() == active.as_ref().map(AsRef::as_ref)).unwrap_or(0);
    if let Some(item) = items.item(step(current, count) % count).and_then(|node| node.dyn_into::<web_sys::HtmlElement>().ok()) {
        focus(&item);
    }
}

/// A command in a menu.
#[component]
pub fn MenuItem(
    #[prop(into)] label: Signal<String>,
    #[prop(optional)] icon: Option<Glyph>,
    /// Shown in the colour of danger.
    #[prop(optional)]
    danger: bool,
    #[prop(into)] on_select: Callback<()>,
) -> impl IntoView {
    let state = use_context::<MenuState>();
    view! {
        <button
            type="button"
            role="menuitem"
            tabindex="-1"
            class="menu-item"
            class:menu-item-danger=danger
            on:click=move |_| {
                if let Some(state) = state {
                    state.close();
                }
                on_select.run(());
            }
        >
            {icon.map(|glyph| view! { <Icon glyph size=16/> })}
            <span>{move || label.get()}</span>
        </button>
    }
    .into_any()
}

/// One of several choices in a menu, of which one is taken.
#[component]
pub fn MenuChoice(
    #[prop(into)] label: String,
    #[prop(optional)] icon: Option<Glyph>,
    #[prop(into)] checked: Signal<bool>,
    #[prop(into)] on_select: Callback<()>,
    /// Choosing closes the menu; without this the reader sees the choice take effect and may try another.
    #[prop(optional)]
    closes: bool,
) -> impl IntoView {
    let state = use_context::<MenuState>().filter(|_| closes);
    let choose = move |_| {
        if let Some(state) = state {
            state.close();
        }
        on_select.run(());
    };
    view! {
        <button type="button" role="menuitemradio" tabindex="-1" class="menu-item" aria-checked=move || checked.get().to_string() on:click=choose>
            {icon.map(|glyph| view! { <Icon glyph size=16/> })}
            <span class="flex-1">{label}</span>
            <Show when=move || checked.get()>
                <Icon glyph=Glyph::Check size=16/>
            </Show>
        </button>
    }
    .into_any()
}

/// A link in a menu. `download` makes the browser save what it leads to.
#[component]
pub fn MenuLink(
    #[prop(into)] label: String,
    #[prop(into)] href: String,
    #[prop(optional)] icon: Option<Glyph>,
    #[prop(optional)] download: bool,
) -> impl IntoView {
    let state = use_context::<MenuState>();
    view! {
        <a
            role="menuitem"
            tabindex="-1"
            class="menu-item"
            href=href
            download=download.then_some("")
            rel=download.then_some("external")
            on:click=move |_| {
                if let Some(state) = state {
                    state.open.set(false);
                }
            }
        >
            {icon.map(|glyph| view! { <Icon glyph size=16/> })}
            <span>{label}</span>
        </a>
    }
    .into_any()
}

/// A line between groups of items.
#[component]
pub fn MenuSeparator() -> impl IntoView {
    view! { <div role="separator" class="menu-separator"></div> }.into_any()
}

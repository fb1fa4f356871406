//! Keyboard shortcuts: one registry, one listener, one sheet (`?`) that lists what is registered now.

use super::{browser::is_in_text_field, dialog::Dialog, kbd::Kbd};
use crate::{
    i18n::{CommonTexts, use_texts},
    lazy::{lazy_part, when_arrived},
};
use leptos::{ev, prelude::*};

/// A combination of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Ctrl, or Cmd on a Mac.
    pub ctrl: bool,
    pub shift: bool,
    /// `KeyboardEvent.key`, letters in lower case: `k`, `/`, `?`, `Escape`.
    pub key: &'static str,
}

impl Keys {
    /// A key alone.
    #[must_use]
    pub const fn plain(key: &'static str) -> Self {
        Self { ctrl: false, shift: false, key }
    }

    /// Ctrl and a key.
    #[must_use]
    pub const fn ctrl(key: &'static str) -> Self {
        Self { ctrl: true, shift: false, key }
    }

    /// Ctrl, Shift and a key.
    #[must_use]
    pub const fn ctrl_shift(key: &'static str) -> Self {
        Self { ctrl: true, shift: true, key }
    }

    fn matches(self, event: &ev::KeyboardEvent) -> bool {
        if event.alt_key() || (event.ctrl_key() || event.meta_key()) != self.ctrl {
            return false;
        }
        // A sign such as `?` needs Shift on one keyboard and not on another.
        let shift_counts = self.ctrl || self.key.chars().all(char::is_alphanumeric);
        event.key().eq_ignore_ascii_case(self.key) && (!shift_counts || event.shift_key() == self.shift)
    }

    /// What is printed on the keys.
    fn names(self, t: &CommonTexts) -> Vec<String> {
        let key = match self.key {
            "Escape" => t.key_escape.to_owned(),
            "Enter" => t.key_enter.to_owned(),
            other => other.to_uppercase(),
        };
        [self.ctrl.then(|| t.key_ctrl.to_owned()), self.shift.then(|| t.key_shift.to_owned()), Some(key)].into_iter().flatten().collect()
    }
}

/// A shortcut as it is offered.
#[derive(Clone, Copy, Debug)]
pub struct Shortcut {
    pub keys: Keys,
    /// Heading in the sheet.
    pub group: &'static str,
    /// What it does, for the sheet.
    pub label: &'static str,
    /// Also works while the person writes in a field. Only sensible with Ctrl, or for Escape.
    pub in_fields: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    id: u32,
    shortcut: Shortcut,
    run: Callback<()>,
}

/// All shortcuts of the page that is shown.
#[derive(Clone, Copy)]
struct Registry {
    entries: StoredValue<Vec<Entry>>,
    next: StoredValue<u32>,
    sheet_open: RwSignal<bool>,
}

pub(crate) fn provide_shortcuts() {
    let registry = Registry { entries: StoredValue::default(), next: StoredValue::new(0), sheet_open: RwSignal::new(false) };
    provide_context(registry);
    Effect::new(move |_| {
        let listener = window_event_listener(ev::keydown, move |event| registry.on_key(&event));
        on_cleanup(move || listener.remove());
    });
}

/// Registers a shortcut for as long as the calling component exists. The last one registered for a
/// combination wins.
pub fn use_shortcut(shortcut: Shortcut, run: impl Fn() + Send + Sync + 'static) {
    let Some(registry) = use_context::<Registry>() else { return };
    let run = Callback::new(move |()| run());
    let id = registry.next.try_update_value(|next| {
        *next += 1;
        *next
    });
    let Some(id) = id else { return };
    registry.entries.update_value(|entries| entries.push(Entry { id, shortcut, run }));
    on_cleanup(move || {
        // The registry may have gone before the component.
        let _unused = registry.entries.try_update_value(|entries| entries.retain(|entry| entry.id != id));
    });
}

/// Opens the sheet of shortcuts (also for menus and help buttons).
#[must_use]
pub fn use_shortcut_sheet() -> RwSignal<bool> {
    use_context::<Registry>().map_or_else(|| RwSignal::new(false), |registry| registry.sheet_open)
}

impl Registry {
    fn on_key(self, event: &ev::KeyboardEvent) {
        // Somebody else took it, a character is being composed, or a dialog has the keyboard.
        if event.default_prevented() || event.is_composing() || dialog_is_open() {
            return;
        }
        let in_field = is_in_text_field(event);
        let found = self.entries.with_value(|entries| {
            entries
                .iter()
                .rev()
                .find(|entry| entry.shortcut.keys.matches(event) && (!in_field || entry.shortcut.in_fields))
                .map(|entry| entry.run)
        });
        if let Some(run) = found {
            event.prevent_default();
            run.run(());
        }
    }

    /// The shortcuts by heading, in the order of registration, each combination once.
    fn groups(self) -> Vec<(&'static str, Vec<Shortcut>)> {
        let mut groups: Vec<(&'static str, Vec<Shortcut>)> = Vec::new();
        self.entries.with_value(|entries| {
            for (index, entry) in entries.iter().enumerate() {
                let shortcut = entry.shortcut;
                if entries[index + 1..].iter().any(|later| later.shortcut.keys == shortcut.keys) {
                    continue;
                }
                match groups.iter_mut().find(|(group, _)| *group == shortcut.group) {
                    Some((_, list)) => list.push(shortcut),
                    None => groups.push((shortcut.group, vec![shortcut])),
                }
            }
        });
        groups
    }
}

fn dialog_is_open() -> bool {
    document().query_selector("dialog[open]").is_ok_and(|found| found.is_some())
}

/// The list of all shortcuts, opened by `?`.
#[component]
pub fn ShortcutSheet() -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let Some(registry) = use_context::<Registry>() else { return ().into_any() };
    let open = registry.sheet_open;
    use_shortcut(
        Shortcut { keys: Keys::plain("?"), group: t.shortcut_group_general, label: t.shortcuts_show, in_fields: false },
        move || open.set(true),
    );
    view! {
        <Dialog open title=t.shortcuts>{when_arrived(&LIST, move |show| show(registry))}</Dialog>
    }
    .into_any()
}

lazy_part!(static LIST = shortcut_list: all_shortcuts as fn(Registry) -> AnyView);

fn all_shortcuts(registry: Registry) -> AnyView {
    let t = use_texts::<CommonTexts>();
    let groups = move || {
        registry
            .groups()
            .into_iter()
            .map(|(group, list)| {
                let rows = list
                    .into_iter()
                    .map(|shortcut| {
                        view! {
                            <div class="flex items-center justify-between gap-4 py-1.5">
                                <dt>{shortcut.label}</dt>
                                <dd>
                                    <Kbd keys=shortcut.keys.names(t)/>
                                </dd>
                            </div>
                        }
                    })
                    .collect_view();
                view! {
                    <section>
                        <h3 class="mb-1 text-sm text-faint">{group}</h3>
                        <dl class="divide-y divide-line text-sm">{rows}</dl>
                    </section>
                }
            })
            .collect_view()
    };
    view! {
        {groups}
        <p class="field-hint">{t.shortcuts_hint}</p>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use crate::i18n::CommonTexts;

    #[test]
    fn keys_are_named_as_printed() {
        assert_eq!(Keys::ctrl_shift("o").names(&CommonTexts::DE), ["Strg", "Umschalt", "O"]);
        assert_eq!(Keys::plain("Escape").names(&CommonTexts::EN), ["Esc"]);
    }
}

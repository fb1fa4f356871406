//! Where a question was edited or an answer made again: ‹ 2/3 ›.

use super::{actions::Actions, rows::Row};
use crate::{
    i18n::{chat::ChatTexts, fill, use_texts},
    ui::{button::IconButton, icon::Glyph},
};
use leptos::prelude::*;

/// Switches between the branches at a message; nothing if there is only one.
#[component]
pub fn BranchSwitcher(row: Row, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let id = row.id;
    let siblings = Memo::new(move |_| row.meta.with(|meta| meta.siblings.clone()));
    let place = move || siblings.with(|siblings| siblings.iter().position(|sibling| *sibling == id).unwrap_or_default());
    let locked = move || actions.chat.running.get().is_some() || actions.chat.busy.get();
    let go = move |step: isize| {
        let target = siblings.with_untracked(|siblings| {
            let at = siblings.iter().position(|sibling| *sibling == id)?;
            siblings.get(at.checked_add_signed(step)?).copied()
        });
        if let Some(target) = target {
            actions.select_branch(target);
        }
    };
    let count = move || siblings.with(Vec::len);
    let several = move || count() > 1;
    let label = move || fill(t.branch_of, &[("n", &(place() + 1).to_string()), ("total", &count().to_string())]);
    view! {
        <Show when=several>
            <div class="branches" role="group" aria-label=label>
                <IconButton
                    glyph=Glyph::ChevronLeft
                    label=t.previous_branch
                    size=16
                    disabled=Signal::derive(move || locked() || place() == 0)
                    on:click=move |_| go(-1)
                />
                <span class="text-xs tabular-nums" aria-hidden="true">{move || format!("{}/{}", place() + 1, count())}</span>
                <IconButton
                    glyph=Glyph::ChevronRight
                    label=t.next_branch
                    size=16
                    disabled=Signal::derive(move || locked() || place() + 1 >= count())
                    on:click=move |_| go(1)
                />
            </div>
        </Show>
    }
    .into_any()
}

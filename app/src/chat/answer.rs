//! An answer: its Markdown, how it ended, and what can be done with it.

use super::{actions::Actions, branches::BranchSwitcher, copy::CopyButton, rating::RatingButtons, rows::Row, stats::Stats};
use crate::{
    i18n::{chat::ChatTexts, fill, problem_text, use_language, use_texts},
    ui::{
        button::{Button, IconButton, Look},
        icon::{Glyph, Icon},
        markdown::Markdown,
    },
};
use contract::{
    chat::{Message, MessageStatus},
    problem::{CONTENT_FILTER, Problem, ProblemKind, is_refusal},
};
use leptos::prelude::*;

/// One answer.
#[component]
pub fn Answer(row: Row, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let status = {
        let meta = row.meta.clone();
        Memo::new(move |_| meta.with(|meta| meta.status))
    };
    let running = move || status.get() == MessageStatus::Running;
    let empty = {
        let text = row.text.clone();
        Memo::new(move |_| text.with(String::is_empty))
    };
    let source = RwSignal::from(row.text.clone());
    view! {
        <article class="answer" aria-label=t.answer aria-busy=move || running().to_string()>
            <Markdown text=source/>
            <Show when=move || running() && empty.get()>
                <Waiting actions/>
            </Show>
            <Ending row=row.clone() actions status/>
            <Warnings row=row.clone()/>
            <Show when=move || !running()>
                <Tools row=row.clone() actions/>
            </Show>
        </article>
    }
    .into_any()
}

/// Before the first word: what the answer is waiting for.
#[component]
fn Waiting(actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let text = move || match actions.chat.queued.get() {
        Some((place, Some(wait_ms))) if place > 0 => {
            let seconds = wait_ms.div_ceil(1000).max(1);
            fill(t.queued_for, &[("n", &place.to_string()), ("s", &seconds.to_string())])
        }
        Some((place, None)) if place > 0 => fill(t.queued, &[("n", &place.to_string())]),
        _ => t.thinking.to_owned(),
    };
    view! {
        <p class="answer-waiting">
            <span class="answer-dots" aria-hidden="true"><span></span><span></span><span></span></span>
            <span>{text}</span>
        </p>
    }
    .into_any()
}

/// A rule or a filter did not let it come about, or not to its end.
fn would_be_refused_again(answer: &Message) -> bool {
    let filtered = answer.stats.as_ref().is_some_and(|stats| stats.finish_reason == CONTENT_FILTER);
    filtered || answer.error.as_deref().is_some_and(is_refusal)
}

/// Why an answer is not whole, and the way to go on.
#[component]
fn Ending(row: Row, actions: Actions, status: Memo<MessageStatus>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let language = use_language();
    let id = row.id;
    let meta = row.meta;
    let refused = {
        let meta = meta.clone();
        move || meta.with(would_be_refused_again)
    };
    let reason = move || match status.get() {
        MessageStatus::Running => None,
        MessageStatus::Stopped => Some((Glyph::Stop, t.stopped.to_owned())),
        MessageStatus::Interrupted => {
            let code = meta.with(|meta| meta.error.clone());
            let why = |code: &str| problem_text(language, &Problem::new(ProblemKind::Unavailable, code, ""));
            let text = match &code {
                Some(code) if is_refusal(code) => why(code),
                Some(code) => format!("{} {}", t.interrupted, why(code)),
                None => t.interrupted.to_owned(),
            };
            Some((Glyph::Alert, text))
        }
        MessageStatus::Complete => {
            let text = meta.with(|meta| match meta.stats.as_ref()?.finish_reason.as_str() {
                "length" => Some(t.reached_length),
                "content_filter" => Some(t.filtered),
                _ => None,
            });
            text.map(|text| (Glyph::Info, text.to_owned()))
        }
    };
    move || {
        reason().map(|(glyph, text)| {
            let disabled = Signal::derive(move || actions.chat.running.get().is_some() || actions.chat.busy.get());
            let resume = (!actions.chat.temporary.get() && !refused()).then(|| {
                view! {
                    <Button look=Look::Secondary icon=Glyph::Play disabled on:click=move |_| actions.resume(id)>
                        {t.resume}
                    </Button>
                }
            });
            view! {
                <div class="answer-ending">
                    <Icon glyph size=16/>
                    <span class="flex-1">{text}</span>
                    {resume}
                </div>
            }
        })
    }
}

/// Rules that let the question pass and warn of it.
#[component]
fn Warnings(row: Row) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let meta = row.meta;
    move || {
        let rules = meta.with(|meta| meta.warnings.join(", "));
        (!rules.is_empty()).then(|| {
            view! {
                <div class="answer-ending" role="note">
                    <Icon glyph=Glyph::Info size=16/>
                    <span class="flex-1">{fill(t.warned, &[("rules", &rules)])}</span>
                </div>
            }
        })
    }
}

#[component]
fn Tools(row: Row, actions: Actions) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let id = row.id;
    let stored = !actions.chat.temporary.get_untracked();
    // Of a refusal there is nothing to copy or to rate.
    let says_something = {
        let (text, meta) = (row.text.clone(), row.meta.clone());
        Memo::new(move |_| !text.with(String::is_empty) || !meta.with(would_be_refused_again))
    };
    let copy = {
        let text = row.text.clone();
        Callback::new(move |()| text.get_untracked())
    };
    let rated = row.clone();
    view! {
        <div class="message-tools" role="group" aria-label=t.answer_tools>
            <BranchSwitcher row=row.clone() actions/>
            <Show when=move || says_something.get()>
                <CopyButton label=t.copy_answer text=copy/>
            </Show>
            <IconButton
                glyph=Glyph::Refresh
                label=t.regenerate
                size=16
                disabled=Signal::derive(move || actions.chat.running.get().is_some() || actions.chat.busy.get())
                on:click=move |_| actions.regenerate(id)
            />
            <Show when=move || stored && says_something.get()>
                <RatingButtons row=rated.clone() actions/>
            </Show>
            <Stats meta=row.meta.clone()/>
        </div>
    }
    .into_any()
}

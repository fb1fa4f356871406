//! Tokens and speed of an answer, on demand.

use crate::{
    i18n::{chat::ChatTexts, number, use_language, use_texts},
    ui::icon::{Glyph, Icon},
};
use contract::{
    account::Language,
    chat::{AnswerStats, Message},
};
use leptos::prelude::*;

/// A button ⓘ that shows the figures; nothing while there are none.
#[component]
pub fn Stats(meta: ArcRwSignal<Message>) -> impl IntoView {
    let t = use_texts::<ChatTexts>();
    let language = use_language();
    let open = RwSignal::new(false);
    let stats = Memo::new(move |_| meta.with(|meta| meta.stats.clone()));
    let rows = move || {
        stats.get().map(|stats| {
            figures(&stats, t, language)
                .into_iter()
                .map(|(name, value)| {
                    view! {
                        <div class="flex justify-between gap-4">
                            <dt class="text-faint">{name}</dt>
                            <dd class="tabular-nums">{value}</dd>
                        </div>
                    }
                })
                .collect_view()
        })
    };
    view! {
        <Show when=move || stats.with(Option::is_some)>
            <button
                type="button"
                class="icon-btn"
                aria-label=t.tokens_and_speed
                title=t.tokens_and_speed
                aria-expanded=move || open.get().to_string()
                on:click=move |_| open.update(|open| *open = !*open)
            >
                <Icon glyph=Glyph::Info size=16/>
            </button>
        </Show>
        <Show when=move || open.get()>
            <div class="popover-line">
                <dl class="popover text-sm">{rows}</dl>
            </div>
        </Show>
    }
    .into_any()
}

fn figures(stats: &AnswerStats, t: &'static ChatTexts, language: Language) -> Vec<(&'static str, String)> {
    let count = |value: u32| number(language, i64::from(value));
    let mut rows = vec![
        (t.stat_model, stats.model.clone()),
        (t.stat_prompt, count(stats.prompt_tokens)),
        (t.stat_cached, count(stats.cached_tokens)),
        (t.stat_completion, count(stats.completion_tokens)),
        (t.stat_first_token, seconds(stats.ttft_ms, language)),
        (t.stat_duration, seconds(stats.duration_ms, language)),
    ];
    if let Some(speed) = speed(stats) {
        rows.push((t.stat_speed, format!("{} {}", decimal(speed, language), t.tokens_per_second)));
    }
    rows
}

/// Tokens per second after the first one; `None` where there is nothing to measure.
fn speed(stats: &AnswerStats) -> Option<f64> {
    let tokens = stats.completion_tokens.checked_sub(1).filter(|tokens| *tokens > 0)?;
    let millis = stats.duration_ms.checked_sub(stats.ttft_ms).filter(|millis| *millis > 0)?;
    Some(f64::from(tokens) * 1_000.0 / f64::from(millis))
}

fn seconds(millis: u32, language: Language) -> String {
    format!("{} s", decimal(f64::from(millis) / 1_000.0, language))
}

/// One decimal, with the language's sign.
fn decimal(value: f64, language: Language) -> String {
    let text = format!("{value:.1}");
    match language {
        Language::En => text,
        Language::De => text.replace('.', ","),
    }
}

#[cfg(test)]
mod tests {
    use super::{decimal, speed};
    use contract::{account::Language, chat::AnswerStats};

    #[test]
    fn chat_speed_counts_tokens_after_the_first() {
        let stats = AnswerStats { completion_tokens: 101, ttft_ms: 500, duration_ms: 5_500, ..AnswerStats::default() };
        assert_eq!(speed(&stats), Some(20.0));
        assert_eq!(speed(&AnswerStats { completion_tokens: 1, ..stats.clone() }), None);
        assert_eq!(speed(&AnswerStats { duration_ms: 500, ..stats }), None);
        assert_eq!(decimal(1.25, Language::De), "1,2");
    }
}

//! *Usage*: own tokens per day as a chart, by model and purpose as a table, as CSV.

use super::{
    api::usage_report,
    usage_budgets::Budgets,
    usage_sums::{ModelSums, Sums, by_day, by_model_and_purpose, cost, total},
};
use crate::{
    i18n::{CommonTexts, account::AccountTexts, fill, money, number, use_language, use_texts},
    ui::{
        button::{Button, LinkButton},
        chart::{BarChart, Column},
        empty::EmptyState,
        field::TextField,
        icon::Glyph,
        problem::ProblemNotice,
        skeleton::{SkeletonBlock, SkeletonLines},
        table::Table,
        time::{Time, days_between, last_days, parse_day, short_day},
    },
};
use contract::{
    account::Language,
    usage::{Money, Purpose, UsageRange, UsageReport},
};
use leptos::{ev, prelude::*};
use leptos_meta::Title;
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_query_map},
};

/// The offered periods, in days; the second is the first view.
const PRESETS: [i64; 3] = [7, 30, 90];

/// What the address asks for: `?days=30` or `?from=&to=`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Period {
    Last(i64),
    Between(String, String),
}

impl Period {
    fn of(days: Option<&str>, from: Option<String>, to: Option<String>) -> Self {
        match (from, to) {
            (Some(from), Some(to)) if parse_day(&from).is_some() && parse_day(&to).is_some() => Self::Between(from, to),
            _ => Self::Last(days.and_then(|days| days.parse().ok()).filter(|days| PRESETS.contains(days)).unwrap_or(PRESETS[1])),
        }
    }

    fn range(&self) -> UsageRange {
        let (from, to) = match self {
            Self::Last(days) => last_days(*days),
            Self::Between(from, to) => (from.clone(), to.clone()),
        };
        UsageRange { from, to }
    }
}

/// `/account/usage`.
#[component]
pub fn UsageTab() -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let query = use_query_map();
    let period = Memo::new(move |_| query.with(|query| Period::of(query.get("days").as_deref(), query.get("from"), query.get("to"))));
    // "The last days" become dates where the report is made: the page shows the report's own range.
    let report = Resource::new(move || period.get(), |period| async move { usage_report(period.range()).await });
    view! {
        <Title text=common.usage/>
        <div class="stack-lg">
            <p class="card-lead">{t.usage_lead}</p>
            <PeriodChoice period/>
            <Suspense fallback=UsageSkeleton>
                {move || Suspend::new(async move {
                    match report.await {
                        Ok(report) => view! { <Report report/> }.into_any(),
                        Err(error) => view! { <ProblemNotice error retry=Callback::new(move |()| report.refetch())/> }.into_any(),
                    }
                })}
            </Suspense>
        </div>
    }
    .into_any()
}

#[component]
fn UsageSkeleton() -> impl IntoView {
    view! {
        <SkeletonBlock class="h-56 w-full"/>
        <SkeletonLines lines=5/>
    }
    .into_any()
}

/// Presets as links, and two days of one's own choice.
#[component]
fn PeriodChoice(period: Memo<Period>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let navigate = use_navigate();
    let shown = period.get_untracked();
    let (first, last) = match shown {
        Period::Between(from, to) => (from, to),
        Period::Last(_) => (String::new(), String::new()),
    };
    let (from, to) = (RwSignal::new(first), RwSignal::new(last));
    let wrong = RwSignal::new(None::<String>);
    let presets = PRESETS
        .map(|days| {
            let chosen = move || (period.get() == Period::Last(days)).then_some("true");
            view! {
                <a class="choice" class:choice-on=move || chosen().is_some() href=format!("/account/usage?days={days}") aria-current=chosen>
                    {fill(t.last_days, &[("days", &days.to_string())])}
                </a>
            }
        })
        .collect_view();
    let apply = move |event: ev::SubmitEvent| {
        event.prevent_default();
        let (first, last) = (from.get_untracked(), to.get_untracked());
        match (parse_day(&first), parse_day(&last)) {
            (Some(start), Some(end)) if start <= end => {
                wrong.set(None);
                navigate(&format!("/account/usage?from={first}&to={last}"), NavigateOptions { scroll: false, ..Default::default() });
            }
            (Some(_), Some(_)) => wrong.set(Some(t.range_order.to_owned())),
            _ => wrong.set(Some(t.range_incomplete.to_owned())),
        }
    };
    view! {
        <div class="flex flex-wrap items-end justify-between gap-4">
            <nav class="choices" aria-label=t.period>
                {presets}
            </nav>
            <form class="flex flex-wrap items-end gap-3" method="get" action="/account/usage" on:submit=apply novalidate>
                <TextField name="from" kind="date" label=t.from value=from/>
                <TextField name="to" kind="date" label=t.to value=to error=wrong/>
                <Button submit=true>{t.apply}</Button>
            </form>
        </div>
    }
    .into_any()
}

#[component]
fn Report(report: UsageReport) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let UsageReport { range, rows, budgets, as_of } = report;
    let csv = format!("/ui/export/usage.csv?from={}&to={}", range.from, range.to);
    if rows.is_empty() {
        return view! {
            <Budgets budgets/>
            <EmptyState icon=Glyph::Chart title=t.usage_empty_title text=t.usage_empty_text/>
        }
        .into_any();
    }
    let sums = total(&rows);
    let days = by_day(&rows, &days_between(&range.from, &range.to));
    let models = by_model_and_purpose(&rows);
    let cost = cost(&rows);
    view! {
        <Budgets budgets/>
        <Figures sums cost=cost.clone()/>
        <section class="card">
            <DayChart range days/>
        </section>
        <div class="stack">
            <div class="row justify-between">
                <h2 class="card-title">{t.by_model}</h2>
                <LinkButton href=csv icon=Glyph::Download download=true>
                    {t.csv}
                </LinkButton>
            </div>
            <ModelTable models sums cost/>
            {as_of
                .map(|at| {
                    view! {
                        <p class="field-hint">
                            {t.as_of} " " <Time at/>
                        </p>
                    }
                })}
        </div>
    }
    .into_any()
}

#[component]
fn Figures(sums: Sums, cost: Vec<Money>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let language = use_language();
    let figures = [
        (t.prompt_tokens_new, sums.read(), Some("chart-key series-1")),
        (t.cached_tokens, sums.cached, Some("chart-key series-2")),
        (t.completion_tokens, sums.completion, Some("chart-key series-3")),
        (t.total_tokens, sums.total(), None),
        (t.requests, sums.requests, None),
    ]
    .into_iter()
    .map(|(label, value, key)| {
        view! {
            <div class="figure">
                <dt class="figure-label">
                    {key.map(|class| view! { <span class=format!("{class} mr-0") aria-hidden="true"></span> })}
                    {label}
                </dt>
                <dd class="figure-value">{number(language, value)}</dd>
            </div>
        }
    })
    .collect_view();
    let costs = cost
        .into_iter()
        .map(|cost| {
            let text = money(language, &cost);
            let (number, unit) = text.rsplit_once('\u{a0}').unwrap_or((&text, ""));
            view! {
                <div class="figure">
                    <dt class="figure-label">{t.cost}</dt>
                    <dd class="figure-value">{number.to_owned()} <span class="figure-unit">{format!("\u{a0}{unit}")}</span></dd>
                </div>
            }
        })
        .collect_view();
    view! {
        <dl class="figures">{figures} {costs}</dl>
        <p class="field-hint">{format!("{}: {}", t.cached_tokens, t.cached_hint)}</p>
    }
    .into_any()
}

#[component]
fn DayChart(range: UsageRange, days: Vec<(String, Sums)>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let language = use_language();
    let title = fill(t.chart_title, &[("from", &range.from), ("to", &range.to)]);
    let columns = days
        .into_iter()
        .map(|(day, sums)| Column { short: short_day(&day, language), name: day, values: [sums.read(), sums.cached, sums.completion] })
        .collect();
    view! { <BarChart title series=[t.prompt_tokens_new, t.cached_tokens, t.completion_tokens] columns/> }.into_any()
}

#[component]
fn ModelTable(models: Vec<ModelSums>, sums: Sums, cost: Vec<Money>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let common = use_texts::<CommonTexts>();
    let language = use_language();
    // A column that is empty everywhere tells nothing.
    let paid = !cost.is_empty();
    let cells = move |sums: Sums, cost: &[Money]| {
        let numbers = [sums.requests, sums.prompt, sums.cached, sums.completion, sums.total()]
            .map(|value| view! { <td class="num">{number(language, value)}</td> })
            .collect_view();
        (numbers, paid.then(|| view! { <td class="num">{costs(language, cost)}</td> }))
    };
    let rows = models
        .into_iter()
        .map(|one| {
            view! {
                <tr>
                    <th scope="row">{one.model}</th>
                    <td>{purpose_text(t, one.purpose)}</td>
                    {cells(one.sums, &one.cost)}
                </tr>
            }
        })
        .collect_view();
    let headings = [t.requests, t.prompt_tokens, t.cached_tokens, t.completion_tokens, t.total_tokens]
        .map(|heading| view! { <th scope="col" class="num">{heading}</th> })
        .collect_view();
    view! {
        <Table caption=t.by_model>
            <thead>
                <tr>
                    <th scope="col">{t.model}</th>
                    <th scope="col">{t.purpose}</th>
                    {headings}
                    {paid.then(|| view! { <th scope="col" class="num">{t.cost}</th> })}
                </tr>
            </thead>
            <tbody>{rows}</tbody>
            <tfoot>
                <tr>
                    <th scope="row" colspan="2">{common.total}</th>
                    {cells(sums, &cost)}
                </tr>
            </tfoot>
        </Table>
    }
    .into_any()
}

/// Sums of several currencies stand beside each other; what is free is a dash.
fn costs(language: Language, costs: &[Money]) -> String {
    if costs.is_empty() {
        return "\u{2013}".to_owned();
    }
    costs.iter().map(|cost| money(language, cost)).collect::<Vec<_>>().join(" + ")
}

fn purpose_text(t: &AccountTexts, purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Chat => t.purpose_chat,
        Purpose::TemporaryChat => t.purpose_temporary,
        Purpose::Title => t.purpose_title,
        Purpose::Embedding => t.purpose_embedding,
        Purpose::Rerank => t.purpose_rerank,
        Purpose::Api => t.purpose_api,
    }
}

#[cfg(test)]
mod tests {
    use super::Period;

    #[test]
    fn the_address_gives_the_period() {
        assert_eq!(Period::of(Some("7"), None, None), Period::Last(7));
        assert_eq!(Period::of(Some("8"), None, None), Period::Last(30));
        assert_eq!(
            Period::of(None, Some("2024-01-01".into()), Some("2024-02-01".into())),
            Period::Between("2024-01-01".into(), "2024-02-01".into())
        );
        assert_eq!(Period::of(None, Some("x".into()), Some("2024-02-01".into())), Period::Last(30));
    }
}

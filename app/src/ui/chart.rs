//! Charts as inline SVG, each with the same figures as a table.

use super::table::Table;
use crate::i18n::{CommonTexts, number, use_language, use_texts};
use leptos::prelude::*;

/// Most series a chart can tell apart (tokens `series-1` … `series-3`).
pub const SERIES: usize = 3;

/// One column: its name on the axis, its full name, and one value for each series.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub short: String,
    pub name: String,
    pub values: [i64; SERIES],
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 8.0;
const PLOT: f64 = HEIGHT - BOTTOM - TOP;

/// A stacked bar chart over time.
#[component]
pub fn BarChart(
    /// What the chart shows, in one sentence; its name for those who cannot see it.
    #[prop(into)]
    title: String,
    series: [&'static str; SERIES],
    columns: Vec<Column>,
) -> impl IntoView {
    let language = use_language();
    let t = use_texts::<CommonTexts>();
    let top = round_up(columns.iter().map(|column| column.values.iter().sum()).max().unwrap_or(0));
    let legend = series
        .iter()
        .enumerate()
        .map(|(index, name)| {
            view! {
                <span>
                    <span class=format!("chart-key series-{}", index + 1) aria-hidden="true"></span>
                    {*name}
                </span>
            }
        })
        .collect_view();
    let rows = columns
        .iter()
        .map(|column| {
            let cells = column.values.iter().map(|value| view! { <td class="num">{number(language, *value)}</td> }).collect_view();
            view! {
                <tr>
                    <th scope="row">{column.name.clone()}</th>
                    {cells}
                    <td class="num">{number(language, column.values.iter().sum())}</td>
                </tr>
            }
        })
        .collect_view();
    let headings = series.iter().map(|name| view! { <th scope="col" class="num">{*name}</th> }).collect_view();
    let lines = grid(top, language);
    let bars = bars(&columns, top, series, language);
    view! {
        <figure class="chart">
            <div class="chart-legend">{legend}</div>
            <svg viewBox=format!("0 0 {WIDTH} {HEIGHT}") role="img" aria-label=title.clone()>
                {lines}
                {bars}
            </svg>
            <details>
                <summary class="w-fit text-sm text-soft">{t.show_as_table}</summary>
                <div class="mt-3 max-h-80 overflow-y-auto">
                    <Table caption=title>
                        <thead>
                            <tr>
                                <th scope="col">{t.day}</th>
                                {headings}
                                <th scope="col" class="num">{t.total}</th>
                            </tr>
                        </thead>
                        <tbody>{rows}</tbody>
                    </Table>
                </div>
            </details>
        </figure>
    }
    .into_any()
}

fn height(value: i64, top: i64) -> f64 {
    PLOT * value as f64 / top as f64
}

/// Horizontal lines with their values.
fn grid(top: i64, language: contract::account::Language) -> impl IntoView {
    (0..=4)
        .map(|step| {
            let value = top * step / 4;
            let y = TOP + PLOT - height(value, top);
            view! {
                <line class="chart-grid" x1=LEFT x2=WIDTH y1=y y2=y></line>
                <text class="chart-label" x=LEFT - 8.0 y=y + 4.0 text-anchor="end">
                    {compact(value, language)}
                </text>
            }
        })
        .collect_view()
}

/// The columns, and as many labels below them as fit.
fn bars(columns: &[Column], top: i64, series: [&'static str; SERIES], language: contract::account::Language) -> impl IntoView {
    let slot = (WIDTH - LEFT) / columns.len().max(1) as f64;
    let width = (slot * 0.72).min(34.0);
    let every = columns.len().div_ceil(10).max(1);
    columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let x = LEFT + slot * index as f64 + (slot - width) / 2.0;
            let mut y = TOP + PLOT;
            let parts = column
                .values
                .iter()
                .enumerate()
                .filter(|(_, value)| **value > 0)
                .map(|(part, value)| {
                    let full = height(*value, top);
                    y -= full;
                    // A hair's breadth between the parts, so that they can be told apart without colour.
                    view! { <rect class=format!("series-{}", part + 1) x=x y=y width=width height=(full - 0.75).max(0.75) rx="1.5"></rect> }
                })
                .collect_view();
            let label = (index % every == 0).then(|| {
                view! {
                    <text class="chart-label" x=x + width / 2.0 y=HEIGHT - 6.0 text-anchor="middle">
                        {column.short.clone()}
                    </text>
                }
            });
            let tip = series
                .iter()
                .zip(column.values)
                .map(|(name, value)| format!("{name}: {}", number(language, value)))
                .collect::<Vec<_>>()
                .join("\n");
            view! {
                <g class="chart-column">
                    <title>{format!("{}\n{tip}", column.name)}</title>
                    {parts}
                    {label}
                </g>
            }
        })
        .collect_view()
}

/// The smallest of 4, 8, 20, 40, 80, 200, … that is not below the value: a scale in round quarters.
fn round_up(value: i64) -> i64 {
    let mut scale = 4_i64;
    loop {
        for factor in [1, 2, 5] {
            let top = scale.saturating_mul(factor);
            if top >= value {
                return top;
            }
        }
        scale = scale.saturating_mul(10);
    }
}

/// `1.5k`, `2M`: short enough for an axis.
fn compact(value: i64, language: contract::account::Language) -> String {
    let (scaled, unit) = match value {
        1_000_000_000.. => (value / 100_000_000, "G"),
        1_000_000.. => (value / 100_000, "M"),
        1_000.. => (value / 100, "k"),
        _ => return value.to_string(),
    };
    let point = match language {
        contract::account::Language::En => '.',
        contract::account::Language::De => ',',
    };
    if scaled % 10 == 0 { format!("{}{unit}", scaled / 10) } else { format!("{}{point}{}{unit}", scaled / 10, scaled % 10) }
}

#[cfg(test)]
mod tests {
    use super::{compact, round_up};
    use contract::account::Language;

    #[test]
    fn scales_are_round() {
        for (value, top) in [(0, 4), (4, 4), (5, 8), (9, 20), (21, 40), (41, 80), (399, 400), (1_234, 2_000), (i64::MAX, i64::MAX)] {
            assert_eq!(round_up(value), top, "{value}");
        }
    }

    #[test]
    fn axis_labels_are_short() {
        assert_eq!(compact(950, Language::En), "950");
        assert_eq!(compact(1_500, Language::En), "1.5k");
        assert_eq!(compact(1_500, Language::De), "1,5k");
        assert_eq!(compact(2_000_000, Language::En), "2M");
    }
}

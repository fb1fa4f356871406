//! Instants and days. The server prints UTC; the browser replaces it by the reader's own time zone
//! and format after it has taken over, so that both render the same first view.

use crate::i18n::use_language;
use contract::{Millis, account::Language};
use leptos::prelude::*;

const DAY_MS: i64 = 86_400_000;

/// How much of an instant to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Day and time.
    #[default]
    DateTime,
    /// The day.
    Date,
}

/// An instant as text, with the exact UTC time in the `datetime` attribute.
#[component]
pub fn Time(at: Millis, #[prop(optional)] shown: Shown) -> impl IntoView {
    let language = use_language();
    let text = RwSignal::new(utc(at, shown));
    Effect::new(move |_| text.set(local(at, shown, language)));
    view! { <time datetime=iso(at)>{move || text.get()}</time> }.into_any()
}

/// Now, in milliseconds since the epoch.
#[must_use]
pub fn now() -> Millis {
    #[cfg(feature = "ssr")]
    {
        domain::Clock::now(&domain::SystemClock)
    }
    #[cfg(not(feature = "ssr"))]
    {
        // Whole milliseconds fit an f64 until the year 287396.
        js_sys::Date::now() as Millis
    }
}

/// The UTC day of an instant, `YYYY-MM-DD`.
#[must_use]
pub fn day(at: Millis) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// The first instant of a UTC day given as `YYYY-MM-DD`; `None` for anything else.
#[must_use]
pub fn parse_day(text: &str) -> Option<Millis> {
    let mut parts = text.splitn(3, '-');
    let mut part = |length: usize| {
        parts.next().filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<i64>().ok()
    };
    let (year, month, day_of_month) = (part(4)?, part(2)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day_of_month) {
        return None;
    }
    let at = days(year, month, day_of_month) * DAY_MS;
    (day(at) == text).then_some(at)
}

/// All days from `from` to `to`, both included; empty if one is not a day or they are the wrong way round.
#[must_use]
pub fn days_between(from: &str, to: &str) -> Vec<String> {
    match (parse_day(from), parse_day(to)) {
        (Some(first), Some(last)) if first <= last => (0..=(last - first) / DAY_MS).map(|offset| day(first + offset * DAY_MS)).collect(),
        _ => Vec::new(),
    }
}

/// The period of `count` days that ends today (UTC).
#[must_use]
pub fn last_days(count: i64) -> (String, String) {
    let now = now();
    (day(now - (count - 1).max(0) * DAY_MS), day(now))
}

/// A day without its year, the same on both sides: `23 Nov` or `23.11.`.
#[must_use]
pub fn short_day(day: &str, language: Language) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = day.get(5..7).and_then(|month| month.parse::<usize>().ok()).and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    match (day.get(5..7), day.get(8..10), name, language) {
        (Some(month), Some(day), _, Language::De) => format!("{day}.{month}."),
        (_, Some(day), Some(name), Language::En) => format!("{} {name}", day.trim_start_matches('0')),
        _ => day.to_owned(),
    }
}

fn iso(at: Millis) -> String {
    let in_day = at.rem_euclid(DAY_MS);
    let (hours, minutes, seconds, millis) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60, in_day % 1_000);
    format!("{}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z", day(at))
}

fn utc(at: Millis, shown: Shown) -> String {
    match shown {
        Shown::Date => day(at),
        Shown::DateTime => {
            let in_day = at.rem_euclid(DAY_MS);
            format!("{} {:02}:{:02} UTC", day(at), in_day / 3_600_000, in_day / 60_000 % 60)
        }
    }
}

/// By the browser's `Intl`, in the reader's time zone.
fn local(at: Millis, shown: Shown, language: Language) -> String {
    let options = js_sys::Object::new();
    let set = |key: &str, value: &str| {
        // Setting a property of a fresh object cannot fail.
        let _unused = js_sys::Reflect::set(&options, &key.into(), &value.into());
    };
    set("dateStyle", "medium");
    if shown == Shown::DateTime {
        set("timeStyle", "short");
    }
    let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_f64(at as f64));
    let locale = match language {
        Language::En => "en-GB",
        Language::De => "de-DE",
    };
    date.to_locale_string(locale, &options).into()
}

/// Year, month and day of a day number (0 is 1970-01-01), proleptic Gregorian.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is the last one; eras have 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::{Shown, civil, day, days, days_between, iso, parse_day, short_day, utc};
    use contract::account::Language;

    #[test]
    fn days_and_instants_agree() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(-1), "1969-12-31");
        assert_eq!(iso(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(utc(1_700_000_000_123, Shown::DateTime), "2023-11-14 22:13 UTC");
        assert_eq!(parse_day("2024-02-29"), Some(1_709_164_800_000));
    }

    #[test]
    fn the_calendar_is_its_own_inverse() {
        for number in (-200_000..200_000).step_by(13) {
            let (year, month, day) = civil(number);
            assert_eq!(days(year, month, day), number, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in ["", "2023-02-29", "2023-13-01", "2023-1-1", "2023-01-01x", "20230101", "a-b-c", "-123-01-01"] {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }

    #[test]
    fn periods_include_both_ends() {
        assert_eq!(days_between("2023-12-31", "2024-01-02"), ["2023-12-31", "2024-01-01", "2024-01-02"]);
        assert!(days_between("2024-01-02", "2024-01-01").is_empty());
        assert_eq!(short_day("2024-01-02", Language::De), "02.01.");
        assert_eq!(short_day("2024-01-02", Language::En), "2 Jan");
        assert_eq!(short_day("soon", Language::En), "soon");
    }
}

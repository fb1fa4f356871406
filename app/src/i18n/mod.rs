//! Interface texts in both languages, side by side, checked by the compiler: a text without a
//! translation does not build.
//!
//! A module declares its texts once:
//!
//! ```
//! app::texts! {
//!     /// The words of the lamp page.
//!     pub struct LampTexts {
//!         switch: "Switch on" | "Einschalten",
//!     }
//! }
//! assert_eq!(<LampTexts as app::i18n::Texts>::of(contract::account::Language::De).switch, "Einschalten");
//! ```
//!
//! and a component reads them with `let t = use_texts::<LampTexts>();` as plain `&'static str`.
//! They are not reactive on purpose: changing the language loads the page anew, which keeps every
//! view free of closures around words and the browser bundle small.

pub mod account;
pub mod chat;
pub mod common;
pub mod problems;
pub mod search;
pub mod sign_in;

pub use common::CommonTexts;
pub use problems::problem_text;

use contract::{account::Language, usage::Money};

/// A set of texts that exists in every language. Implemented by [`crate::texts!`] only.
pub trait Texts: 'static {
    /// The texts in one language.
    fn of(language: Language) -> &'static Self;
}

/// Declares a struct of texts, English and German side by side.
#[macro_export]
macro_rules! texts {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $en:literal | $de:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: &'static str,)+
        }

        impl $name {
            /// English.
            pub const EN: Self = Self { $($field: $en,)+ };
            /// German.
            pub const DE: Self = Self { $($field: $de,)+ };
        }

        impl $crate::i18n::Texts for $name {
            fn of(language: ::contract::account::Language) -> &'static Self {
                match language {
                    ::contract::account::Language::En => &Self::EN,
                    ::contract::account::Language::De => &Self::DE,
                }
            }
        }
    };
}

/// The language of this page.
#[must_use]
pub fn use_language() -> Language {
    crate::viewer::use_viewer().language
}

/// The texts of this page's language.
#[must_use]
pub fn use_texts<T: Texts>() -> &'static T {
    T::of(use_language())
}

/// The BCP 47 tag for `<html lang>` and for the browser's `Intl`.
#[must_use]
pub fn tag(language: Language) -> &'static str {
    match language {
        Language::En => "en",
        Language::De => "de",
    }
}

/// Puts values into a text: `fill("{n} of {total}", &[("n", "2"), ("total", "7")])`.
#[must_use]
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        out.push_str(before);
        let known = after.find('}').and_then(|close| {
            let name = &after[1..close];
            values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value, close + 1))
        });
        if let Some((value, length)) = known {
            out.push_str(value);
            rest = &after[length..];
        } else {
            out.push('{');
            rest = &after[1..];
        }
    }
    out.push_str(rest);
    out
}

/// A whole number with the language's thousands separator. Written by hand so that server and
/// browser print the same text.
#[must_use]
pub fn number(language: Language, value: i64) -> String {
    let separator = match language {
        Language::En => ',',
        Language::De => '.',
    };
    let digits = value.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0 {
        out.push('\u{2212}');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

/// A sum of money, with as many decimals as it needs: `1,234.50 EUR`, `0.000021 EUR`.
#[must_use]
pub fn money(language: Language, money: &Money) -> String {
    const UNIT: u64 = 1_000_000_000_000;
    let pico = money.pico.unsigned_abs();
    // Whole cents of what has cents; of less, the first two digits that are there.
    let decimals = if pico == 0 || pico >= UNIT / 100 { 2 } else { (13 - pico.ilog10()).min(12) };
    let step = 10_u64.pow(12 - decimals);
    let rounded = pico.saturating_add(step / 2) / step;
    let scale = 10_u64.pow(decimals);
    let (whole, rest) = (rounded / scale, rounded % scale);
    let separator = match language {
        Language::En => '.',
        Language::De => ',',
    };
    let sign = if money.pico < 0 { "\u{2212}" } else { "" };
    let whole = number(language, i64::try_from(whole).unwrap_or(i64::MAX));
    format!("{sign}{whole}{separator}{rest:0width$}\u{a0}{}", money.currency, width = decimals as usize)
}

/// The first language of an `Accept-Language` header that we speak; English otherwise.
#[must_use]
pub fn negotiate(accept_language: &str) -> Language {
    let mut best = (Language::En, 0.0_f32);
    for part in accept_language.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let tag = pieces.next().unwrap_or_default().to_ascii_lowercase();
        let quality = pieces.find_map(|piece| piece.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        let language = match tag.split('-').next() {
            Some("de") => Language::De,
            Some("en") => Language::En,
            _ => continue,
        };
        if quality > best.1 {
            best = (language, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::{fill, money, negotiate, number};
    use contract::{account::Language, usage::Money};

    #[test]
    fn money_has_as_many_decimals_as_it_needs() {
        let shown = |language, pico| money(language, &Money { currency: "EUR".into(), pico });
        let cases = [
            (0, "0.00"),
            (1, "0.000000000001"),
            (21_000_000, "0.000021"),
            (9_949_000_000, "0.0099"),
            (12_345_000_000, "0.01"),
            (1_234_567_890_000_000, "1,234.57"),
            (999_999_000_000_000, "1,000.00"),
            (-2_500_000_000_000, "\u{2212}2.50"),
        ];
        for (pico, text) in cases {
            assert_eq!(shown(Language::En, pico), format!("{text}\u{a0}EUR"));
        }
        assert_eq!(shown(Language::De, 1_234_567_890_000_000), "1.234,57\u{a0}EUR");
    }

    #[test]
    fn placeholders_are_filled_once() {
        assert_eq!(fill("{n} of {total}", &[("n", "{total}"), ("total", "7")]), "{total} of 7");
        assert_eq!(fill("a { b } {x}", &[("y", "1")]), "a { b } {x}");
        assert_eq!(fill("ä {x}", &[("x", "ö")]), "ä ö");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(Language::En, 1_234_567), "1,234,567");
        assert_eq!(number(Language::De, 1_000), "1.000");
        assert_eq!(number(Language::De, 12), "12");
        assert_eq!(number(Language::En, -123_456), "\u{2212}123,456");
    }

    #[test]
    fn the_best_language_wins() {
        assert_eq!(negotiate("de-AT,en;q=0.8"), Language::De);
        assert_eq!(negotiate("fr, de;q=0.3, en;q=0.7"), Language::En);
        assert_eq!(negotiate("fr"), Language::En);
        assert_eq!(negotiate(""), Language::En);
    }
}

//! Exact money. Nothing is rounded: a price per million tokens has at most six decimals, so a token costs a whole
//! number of 10⁻¹² of the currency's unit, and a cost is a sum of whole numbers.

use crate::{Error, Result};
use rust_decimal::Decimal;
use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
    str::FromStr,
};

/// Decimals of an [`Amount`].
const SCALE: u32 = 12;
/// Decimals of a price.
const PRICE_SCALE: u32 = 6;
/// Amounts and prices are smaller than this many units.
const MOST_UNITS: i128 = 1_000_000_000_000;
/// Tokens that a price is for.
const TOKENS: i128 = 1_000_000;

/// A sum of money in 10⁻¹² of a currency's unit; sums up to 7.9 × 10¹⁶ units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i128);

impl Amount {
    pub const ZERO: Self = Self(0);

    /// From a decimal number.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `field`: it is negative, not less than 10¹² units, or has more than 12 decimals.
    pub fn new(field: &'static str, value: Decimal) -> Result<Self> {
        Self::with_scale(field, value, SCALE)
    }

    fn with_scale(field: &'static str, value: Decimal, scale: u32) -> Result<Self> {
        let refuse = |message: String| Err(Error::invalid(field, "amount", message));
        let value = value.normalize();
        if value.is_sign_negative() && !value.is_zero() {
            return refuse(format!("{field} must not be negative."));
        }
        if value.scale() > scale {
            return refuse(format!("{field} may have at most {scale} decimals."));
        }
        let pico = value.mantissa().saturating_mul(10_i128.pow(SCALE - value.scale()));
        if pico < MOST_UNITS * 10_i128.pow(SCALE) { Ok(Self(pico)) } else { refuse(format!("{field} is too large.")) }
    }

    /// What Postgres keeps. `numeric(…, 12)` never has more decimals.
    ///
    /// # Errors
    /// [`Error::Internal`] if it has.
    pub fn from_stored(value: Decimal) -> Result<Self> {
        let value = value.normalize();
        if value.scale() > SCALE {
            return Err(Error::internal(format!("{value} is no amount of money")));
        }
        Ok(Self(value.mantissa().saturating_mul(10_i128.pow(SCALE - value.scale()))))
    }

    /// For Postgres and for people. What is larger than any sum of money becomes the largest.
    #[must_use]
    pub fn decimal(self) -> Decimal {
        Decimal::try_from_i128_with_scale(self.0, SCALE).unwrap_or(if self.0 < 0 { Decimal::MIN } else { Decimal::MAX })
    }

    /// What [`Self::pico`] told.
    #[must_use]
    pub fn of_pico(pico: i64) -> Self {
        Self(pico.into())
    }

    /// In 10⁻¹² of the currency's unit, for the browser; what is more than nine million units becomes that.
    #[must_use]
    pub fn pico(self) -> i64 {
        i64::try_from(self.0).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }

    /// That many times as much.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    /// Whole hundredths of `whole`, rounded down; `None` of nothing.
    #[must_use]
    pub fn percent_of(self, whole: Self) -> Option<i128> {
        (whole.0 > 0).then(|| self.0.saturating_mul(100) / whole.0)
    }
}

impl fmt::Display for Amount {
    /// As a plain decimal number with at least two decimals: `10.00`, `0.000003`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.decimal().normalize();
        if value.scale() < 2 {
            value.rescale(2);
        }
        write!(f, "{value}")
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Amount {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Amount {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    #[must_use]
    pub fn code(&self) -> &str {
        // Three ASCII letters, see `from_str`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("currency", "currency", "A currency is a code of three letters, like EUR.");
        let code: [u8; 3] = text.to_ascii_uppercase().into_bytes().try_into().map_err(|_| wrong())?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a model costs, as people say it: per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceList {
    /// Prompt tokens that are computed.
    pub input: Decimal,
    /// Prompt tokens that come out of the prefix cache.
    pub cached_input: Decimal,
    /// Tokens of answers.
    pub output: Decimal,
    /// For each request, whatever it takes.
    pub per_request: Decimal,
}

/// What a model costs, for one token each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub currency: Currency,
    input: Amount,
    cached_input: Amount,
    output: Amount,
    per_request: Amount,
}

impl Price {
    /// # Errors
    /// [`Error::Invalid`] on the field that is negative, too large or has more than six decimals.
    pub fn new(currency: Currency, list: &PriceList) -> Result<Self> {
        let each = |field, value| Amount::with_scale(field, value, PRICE_SCALE);
        let token = |field, value| each(field, value).map(|amount| Amount(amount.0 / TOKENS));
        Ok(Self {
            currency,
            input: token("input", list.input)?,
            cached_input: token("cached_input", list.cached_input)?,
            output: token("output", list.output)?,
            per_request: each("per_request", list.per_request)?,
        })
    }

    /// What a use costs. `cached` is a part of `prompt`.
    #[must_use]
    pub fn cost(&self, prompt: u32, cached: u32, completion: u32) -> Amount {
        let cached = cached.min(prompt);
        self.per_request
            + self.input.times(u64::from(prompt - cached))
            + self.cached_input.times(u64::from(cached))
            + self.output.times(u64::from(completion))
    }

    /// What a use of so many tokens costs at most, however much of the prompt is cached.
    #[must_use]
    pub fn most(&self, prompt: u32, completion: u32) -> Amount {
        let dearer = if self.cached_input > self.input { prompt } else { 0 };
        self.cost(prompt, dearer, completion)
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Currency, Price, PriceList};
    use rust_decimal::Decimal;

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("a number")
    }

    fn amount(text: &str) -> Amount {
        Amount::new("amount", decimal(text)).expect("an amount")
    }

    fn price(input: &str, cached_input: &str, output: &str, per_request: &str) -> Price {
        let list = PriceList {
            input: decimal(input),
            cached_input: decimal(cached_input),
            output: decimal(output),
            per_request: decimal(per_request),
        };
        Price::new("EUR".parse().unwrap(), &list).expect("a price")
    }

    #[test]
    fn a_token_costs_exactly_its_share() {
        let price = price("0.15", "0.075", "0.60", "0");
        assert_eq!(price.cost(1, 0, 0).to_string(), "0.00000015");
        assert_eq!(price.cost(1_000_000, 0, 0), amount("0.15"));
        assert_eq!(price.cost(1000, 400, 10), amount("0.000126"));
        // The smallest price there is.
        assert_eq!(self::price("0.000001", "0", "0", "0").cost(1, 0, 0).to_string(), "0.000000000001");
    }

    #[test]
    fn a_million_small_costs_add_up_exactly() {
        let cost = price("0.1", "0", "0.3", "0.01").cost(7, 0, 3);
        assert_eq!((0..1_000_000).map(|_| cost).sum::<Amount>(), cost.times(1_000_000));
        assert_eq!(cost.times(1_000_000), amount("10001.6"));
    }

    #[test]
    fn the_most_covers_every_split_of_the_prompt() {
        for price in [price("1", "0.1", "2", "0.5"), price("0.1", "1", "2", "0")] {
            assert!((0..=100).all(|cached| price.cost(100, cached, 5) <= price.most(100, 5)));
        }
    }

    #[test]
    fn what_cannot_be_exact_is_refused_by_name() {
        let list = |input| PriceList { input, cached_input: Decimal::ZERO, output: Decimal::ZERO, per_request: Decimal::ZERO };
        for wrong in ["-1", "0.0000001", "1000000000000", "79000000000000000000000000000"] {
            let refused = Price::new("EUR".parse().unwrap(), &list(decimal(wrong))).expect_err(wrong);
            assert_eq!(refused.problem().field.as_deref(), Some("input"));
        }
        assert!(Price::new("EUR".parse().unwrap(), &list(decimal("-0"))).is_ok());
        assert!("EURO".parse::<Currency>().is_err() && "E1R".parse::<Currency>().is_err());
        assert_eq!("eur".parse::<Currency>().unwrap().code(), "EUR");
    }

    #[test]
    fn amounts_survive_the_database_and_read_like_money() {
        for text in ["0.00", "10.00", "0.000000000001", "1234567890.50"] {
            assert_eq!(amount(text).to_string(), text);
            assert_eq!(Amount::from_stored(amount(text).decimal()).unwrap(), amount(text));
        }
        assert!(Amount::from_stored(decimal("0.0000000000001")).is_err());
    }
}

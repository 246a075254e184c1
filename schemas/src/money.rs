//! Money as integers. Never a float between a provider's token count and an invoice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Money as billed, held, stored and shown: an integer count of nano-dollars (10⁻⁹ USD).
///
/// `ClickHouse`: `Decimal(18, 9)`. Redis: an integer counter. JSON: a number printed from the integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NanoUsd(pub i64);

/// Money inside one rating, exact (10⁻¹⁸ USD). Rounded half-even to [`NanoUsd`] once per event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttoUsd(pub i128);

const ATTO_PER_NANO: i128 = 1_000_000_000;

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("{0:?} is not a decimal number")]
    NotANumber(String),
    #[error("{text:?} has more than {places} decimal places")]
    TooFine { text: String, places: u32 },
    #[error("{0:?} is too large an amount")]
    TooLarge(String),
}

impl NanoUsd {
    pub const ZERO: Self = Self(0);
    /// Larger than any budget: 9.2 billion USD.
    pub const MAX: Self = Self(i64::MAX);

    /// A whole number of dollars.
    #[must_use]
    pub const fn from_usd(dollars: i32) -> Self {
        Self(dollars as i64 * 1_000_000_000)
    }

    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads an amount, rounded down to whole nano-dollars: a limit that somebody computed in floats
    /// (`33.333333333333336`) is never made larger.
    ///
    /// # Errors
    /// The text is no decimal number, or too large.
    pub fn floor(text: &str) -> Result<Self, MoneyError> {
        let (towards_zero, finer) = parse_scaled(text, 9)?;
        let below = finer && text.trim_start().starts_with('-');
        i64::try_from(towards_zero - i128::from(below))
            .map(Self)
            .map_err(|_| MoneyError::TooLarge(text.to_owned()))
    }

    /// The same amount at the precision of the rater.
    #[must_use]
    pub const fn to_atto(self) -> AttoUsd {
        AttoUsd(self.0 as i128 * ATTO_PER_NANO)
    }
}

impl AttoUsd {
    /// Rounds half to even, once per event. `None` when it passes 9.2 billion USD.
    #[must_use]
    pub fn round_half_even(self) -> Option<NanoUsd> {
        let (quotient, remainder) = (
            self.0.div_euclid(ATTO_PER_NANO),
            self.0.rem_euclid(ATTO_PER_NANO),
        );
        let half = ATTO_PER_NANO / 2;
        let up = remainder > half || (remainder == half && quotient % 2 != 0);
        i64::try_from(quotient + i128::from(up)).ok().map(NanoUsd)
    }

    /// Rounds towards more money: the side on which a hold must err.
    #[must_use]
    pub fn round_up(self) -> Option<NanoUsd> {
        let up = self.0.rem_euclid(ATTO_PER_NANO) != 0;
        i64::try_from(self.0.div_euclid(ATTO_PER_NANO) + i128::from(up))
            .ok()
            .map(NanoUsd)
    }
}

/// Reads `12.5`, `1e-7`, `3E-06`, `-0.1` as an integer count of 10^-`places`, and says whether anything finer
/// was cut off.
fn parse_scaled(text: &str, places: u32) -> Result<(i128, bool), MoneyError> {
    let not_a_number = || MoneyError::NotANumber(text.to_owned());
    let too_large = || MoneyError::TooLarge(text.to_owned());
    let trimmed = text.trim();
    let (mantissa, exponent) = match trimmed.find(['e', 'E']) {
        Some(at) => {
            let exponent: i32 = trimmed[at + 1..].parse().map_err(|_| not_a_number())?;
            (&trimmed[..at], exponent)
        }
        None => (trimmed, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
    {
        return Err(not_a_number());
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
            .ok_or_else(too_large)?;
    }
    let mut shift = i64::from(places) + i64::from(exponent) - fraction.len() as i64;
    while shift > 0 && value != 0 {
        value = value.checked_mul(10).ok_or_else(too_large)?;
        shift -= 1;
    }
    let mut finer = false;
    while shift < 0 && value != 0 {
        finer |= value % 10 != 0;
        value /= 10;
        shift += 1;
    }
    Ok((if negative { -value } else { value }, finer))
}

/// The same, exactly.
fn parse_exact(text: &str, places: u32) -> Result<i128, MoneyError> {
    match parse_scaled(text, places)? {
        (value, false) => Ok(value),
        (_, true) => Err(MoneyError::TooFine {
            text: text.to_owned(),
            places,
        }),
    }
}

/// Prints an integer count of 10^-`places` without an exponent and without trailing zeros.
fn format_scaled(f: &mut fmt::Formatter<'_>, value: i128, places: u32) -> fmt::Result {
    let unit = 10_u128.pow(places);
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    let fraction = format!("{:0width$}", magnitude % unit, width = places as usize);
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    f.pad_integral(true, "", &format!("{sign}{}.{fraction}", magnitude / unit))
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_scaled(f, i128::from(self.0), 9)
    }
}

impl fmt::Display for AttoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_scaled(f, self.0, 18)
    }
}

impl FromStr for NanoUsd {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let value = parse_exact(text, 9)?;
        i64::try_from(value)
            .map(Self)
            .map_err(|_| MoneyError::TooLarge(text.to_owned()))
    }
}

impl FromStr for AttoUsd {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        parse_exact(text, 18).map(Self)
    }
}

impl Serialize for NanoUsd {
    /// A JSON number with the exact digits; needs `serde_json`'s `arbitrary_precision`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: serde_json::Number = self
            .to_string()
            .parse()
            .map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    /// A JSON number, or a string, read from its text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = match &value {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text.clone(),
            other => {
                return Err(serde::de::Error::custom(format!(
                    "expected an amount in USD, got {other}"
                )));
            }
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_read_from_the_text_of_their_number() {
        let read = |text: &str| text.parse::<NanoUsd>().map(|amount| amount.0);
        assert_eq!(read("1"), Ok(1_000_000_000));
        assert_eq!(read("0.000000001"), Ok(1));
        assert_eq!(read("3e-06"), Ok(3_000));
        assert_eq!(read("-2.50"), Ok(-2_500_000_000));
        assert_eq!(read("1E3"), Ok(1_000_000_000_000));
        assert!(matches!(read("1e-10"), Err(MoneyError::TooFine { .. })));
        assert!(matches!(read("1e30"), Err(MoneyError::TooLarge(_))));
        for bad in ["", ".", "1.2.3", "0x1", "1e", "NaN", "--1"] {
            assert!(matches!(read(bad), Err(MoneyError::NotANumber(_))), "{bad}");
        }
        assert_eq!("0".parse::<NanoUsd>(), "0e999".parse());
    }

    #[test]
    fn a_limit_of_floats_is_rounded_down() {
        let floor = |text: &str| NanoUsd::floor(text).map(|amount| amount.0);
        assert_eq!(floor("33.333333333333336"), Ok(33_333_333_333));
        assert_eq!(floor("12.5"), Ok(12_500_000_000));
        assert_eq!(floor("1e-10"), Ok(0));
        assert_eq!(floor("-1e-10"), Ok(-1));
        assert_eq!(floor("-1.0000000005"), Ok(-1_000_000_001));
        assert!(matches!(floor("1e30"), Err(MoneyError::TooLarge(_))));
        assert!(matches!(floor("ten"), Err(MoneyError::NotANumber(_))));
    }

    #[test]
    fn one_rounding_half_to_even() {
        let round = |text: &str| {
            text.parse::<AttoUsd>()
                .unwrap()
                .round_half_even()
                .unwrap()
                .0
        };
        assert_eq!(round("0.0000000005"), 0);
        assert_eq!(round("0.0000000015"), 2);
        assert_eq!(round("0.000000000500000001"), 1);
        assert_eq!(round("-0.0000000005"), 0);
        assert_eq!(round("-0.0000000015"), -2);
        assert_eq!(
            "0.0000000001".parse::<AttoUsd>().unwrap().round_up(),
            Some(NanoUsd(1))
        );
    }

    #[test]
    fn json_shows_the_exact_number() {
        let json = serde_json::to_string(&NanoUsd(40)).unwrap();
        assert_eq!(json, "0.00000004");
        assert_eq!(serde_json::from_str::<NanoUsd>(&json).unwrap(), NanoUsd(40));
        assert_eq!(
            serde_json::to_string(&NanoUsd(i64::MAX)).unwrap(),
            "9223372036.854775807"
        );
        assert_eq!(serde_json::to_string(&NanoUsd(0)).unwrap(), "0.0");
    }

    proptest! {
        #[test]
        fn nano_round_trips_through_text(value: i64) {
            prop_assert_eq!(NanoUsd(value).to_string().parse(), Ok(NanoUsd(value)));
        }

        #[test]
        fn atto_round_trips_through_text(value in -(10_i128.pow(36))..10_i128.pow(36)) {
            prop_assert_eq!(AttoUsd(value).to_string().parse(), Ok(AttoUsd(value)));
        }

        #[test]
        fn rounding_moves_by_at_most_half_a_nano(value in -(10_i128.pow(27))..10_i128.pow(27)) {
            let rounded = AttoUsd(value).round_half_even().unwrap().to_atto();
            prop_assert!((rounded.0 - value).abs() <= ATTO_PER_NANO / 2);
        }
    }
}

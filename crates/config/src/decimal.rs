//! Numbers kept as the text that the file holds, so that no price passes through a float.

use std::fmt;

/// A decimal number exactly as written: `0.000003`, `3e-06`, `15`. Checked to be one, never rounded.
///
/// `metering` and `schemas` read amounts from this text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecimalText(String);

impl DecimalText {
    /// `None` unless `text` is a finite decimal number with at most 40 digits.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let exponent: i32 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.len() + fraction.len();
        let plain = whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit());
        (plain && (1..=40).contains(&digits) && exponent.abs() <= 40).then(|| Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-') && !self.is_zero()
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        let mantissa = self.0.split(['e', 'E']).next().unwrap_or_default();
        !mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b))
    }

    /// For ratios such as a similarity threshold; never for money.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        // Every text that `new` accepts is one that the standard parser accepts.
        self.0.parse().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for DecimalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_text_and_refuses_what_is_no_number() {
        for good in ["0", "3e-06", "0.000003", "-1.5", "+2", "1E3", ".5", "5."] {
            let number = DecimalText::new(good).expect(good);
            assert_eq!(number.as_str(), good);
            assert!(number.to_f64().is_finite());
        }
        for bad in [
            "", ".", "1e", "nan", "inf", "1_000", "0x10", "1.2.3", "--1", "1e99", "abc", "e5", "-",
        ] {
            assert_eq!(DecimalText::new(bad), None, "{bad}");
        }
        assert!(DecimalText::new("-0.0").is_some_and(|n| n.is_zero() && !n.is_negative()));
        assert!(DecimalText::new("0e5").is_some_and(|n| n.is_zero()));
        assert!(DecimalText::new("-1").is_some_and(|n| n.is_negative()));
    }
}

//! An instant or a day, as people write them in questions and in the fields of a key.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use schemas::Micros;

/// A day is its whole span; anything finer is an instant. Without a zone it is UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub begin: Micros,
    /// Exclusive: for a day, the first instant of the next.
    pub end: Micros,
}

impl Moment {
    /// Reads `2026-01-31`, `2026-01-31T10:00:00`, `2026-01-31 10:00:00`, or RFC 3339.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        // A query string that was not encoded has lost the plus of its zone.
        let zoned = text.replacen(' ', "+", usize::from(text.contains('T')));
        if let Ok(at) = zoned.parse::<Timestamp>() {
            let at = Micros(at.as_microsecond());
            return Some(Self { begin: at, end: at });
        }
        let whole_day = text.len() <= "2026-01-31".len();
        if whole_day {
            let day: Date = text.parse().ok()?;
            return Some(Self {
                begin: utc(day.into())?,
                end: utc(day.tomorrow().ok()?.into())?,
            });
        }
        let at = utc(text.parse().ok()?)?;
        Some(Self { begin: at, end: at })
    }
}

fn utc(local: DateTime) -> Option<Micros> {
    let at = local.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(Micros(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_span_and_a_time_is_an_instant() {
        const DAY: i64 = 1_769_817_600_000_000;
        const TEN: i64 = DAY + 36_000_000_000;
        for (text, begin, end) in [
            ("2026-01-31", DAY, DAY + 86_400_000_000),
            ("20260131", DAY, DAY + 86_400_000_000),
            ("2026-01-31T10:00:00Z", TEN, TEN),
            ("2026-01-31T10:00:00", TEN, TEN),
            ("2026-01-31 10:00:00", TEN, TEN),
            ("2026-01-31T10:00", TEN, TEN),
            ("2026-01-31T12:00:00+02:00", TEN, TEN),
            ("2026-01-31T12:00:00 02:00", TEN, TEN),
        ] {
            let wanted = Moment {
                begin: Micros(begin),
                end: Micros(end),
            };
            assert_eq!(Moment::read(text), Some(wanted), "{text}");
        }
        for odd in [
            "",
            "2026-02-30",
            "31.01.2026",
            "yesterday",
            "2026-01",
            "1769817600",
        ] {
            assert_eq!(Moment::read(odd), None, "{odd}");
        }
    }
}

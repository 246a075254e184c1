//! When a budget's window begins and ends: a function of time, so no reset job exists.
//!
//! Calendar periods turn at local midnight of a zone, through nights on which clocks change. Never reads
//! the clock, nor the machine's zone files: the zones are compiled in.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use schemas::Micros;

use crate::Error;

/// How long a budget lasts before it starts again at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight.
    Day,
    /// From Monday, midnight.
    Week,
    /// From the first of the month.
    Month,
    /// Several months, counted so that a window starts in January of year 0: `3mo` are the quarters.
    Months(u16),
    /// From the first of January.
    Year,
    /// From the anchor on, elapsed seconds.
    Custom { seconds: u32 },
    /// One window, for ever.
    Lifetime,
}

/// The instants from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub start: Micros,
    pub end: Micros,
}

impl Window {
    pub const LIFETIME: Self = Self {
        start: Micros(0),
        end: Micros(i64::MAX),
    };

    #[must_use]
    pub const fn contains(&self, at: Micros) -> bool {
        self.start.0 <= at.0 && at.0 < self.end.0
    }
}

/// A time zone by its IANA name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub const UTC: Self = Self(TimeZone::UTC);
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl FromStr for Zone {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
        if name.eq_ignore_ascii_case("utc") {
            return Ok(Self::UTC);
        }
        BUNDLED
            .get(name)
            .map(Self)
            .map_err(|_| Error::UnknownZone(name.to_owned()))
    }
}

const EXPECTED: &str = "daily, weekly, monthly, yearly, lifetime, or a number with s, m, h, d, w, mo or y \
     (1d from midnight, 7d and 1w from Monday, 30d and 1mo from the first of the month)";

/// 0000-01-01T00:00:00Z, µs. What came before is part of the window that holds this instant, so that
/// no period begins before the calendar does.
const YEAR_ZERO: i64 = -62_167_219_200_000_000;

/// 9999-12-30T22:00:00Z, µs: the last instant that the calendar reads from microseconds. The window that
/// holds it never ends.
const LAST_SECOND: i64 = 253_402_207_200_000_000;

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

impl FromStr for Period {
    type Err = Error;

    /// Reads LiteLLM's durations with their alignment, and plain words as true calendar periods.
    fn from_str(word: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownPeriod {
            word: word.to_owned(),
            expected: EXPECTED,
        };
        match word.to_ascii_lowercase().as_str() {
            "daily" | "day" | "24h" => return Ok(Self::Day),
            "weekly" | "week" => return Ok(Self::Week),
            "monthly" | "month" => return Ok(Self::Month),
            "yearly" | "year" | "annually" | "365d" => return Ok(Self::Year),
            "hourly" | "hour" => return Ok(Self::Custom { seconds: HOUR }),
            "lifetime" => return Ok(Self::Lifetime),
            _ => {}
        }
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = word.split_at(digits);
        let number: u32 = number.parse().map_err(|_| unknown())?;
        let seconds = |each: u32| {
            let seconds = number.checked_mul(each).ok_or_else(unknown)?;
            Ok(Self::Custom { seconds })
        };
        let months = |each: u32| {
            let count = number.checked_mul(each).ok_or_else(unknown)?;
            u16::try_from(count)
                .map(Self::Months)
                .map_err(|_| unknown())
        };
        match (number, unit) {
            (0, _) => Err(unknown()),
            (1, "d") => Ok(Self::Day),
            (7, "d") | (1, "w") => Ok(Self::Week),
            (30, "d") | (1, "mo") => Ok(Self::Month),
            (1, "y") | (12, "mo") => Ok(Self::Year),
            (_, "s") => seconds(1),
            (_, "m") => seconds(MINUTE),
            (_, "h") => seconds(HOUR),
            (_, "d") => seconds(DAY),
            (_, "w") => seconds(7 * DAY),
            (_, "mo") => months(1),
            (_, "y") => months(12),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Period {
    /// A word that reads back as the same period.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("1d"),
            Self::Week => f.write_str("1w"),
            Self::Month => f.write_str("1mo"),
            Self::Months(count) => write!(f, "{count}mo"),
            Self::Year => f.write_str("1y"),
            Self::Custom { seconds } => write!(f, "{seconds}s"),
            Self::Lifetime => f.write_str("lifetime"),
        }
    }
}

impl Period {
    /// The window that holds an instant. Windows of one period, anchor and zone tile time without a gap
    /// or an overlap; the first and last reach to the ends of `i64`.
    ///
    /// `anchor` counts for [`Period::Custom`] only, `zone` for calendar periods only.
    #[must_use]
    pub fn window(&self, at: Micros, anchor: Micros, zone: &Zone) -> Window {
        match *self {
            Self::Lifetime => Window::LIFETIME,
            Self::Custom { seconds } => elapsed(at, anchor, seconds),
            Self::Day | Self::Week | Self::Month | Self::Months(_) | Self::Year => {
                self.calendar(at, zone)
            }
        }
    }

    fn calendar(self, at: Micros, zone: &Zone) -> Window {
        let known = at.0.clamp(YEAR_ZERO, LAST_SECOND);
        // In the calendar's range by the line above.
        let local = Timestamp::from_microsecond(known).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut first = self.first_day(local.to_zoned(zone.0.clone()).date());
        let mut start = first.and_then(|day| midnight(day, zone));
        // Where clocks go back over midnight, the evening before comes again after the new day began:
        // it stays in the new day's window, or time would have an overlap.
        loop {
            let next = first.and_then(|day| self.next(day));
            let end = next.and_then(|day| midnight(day, zone));
            match end {
                Some(end) if at.0 >= end => (first, start) = (next, Some(end)),
                _ => {
                    return Window {
                        start: Micros(start.filter(|s| *s > YEAR_ZERO).unwrap_or(i64::MIN)),
                        end: Micros(end.unwrap_or(i64::MAX)),
                    };
                }
            }
        }
    }

    /// First day of the period that a day lies in; `None` before the calendar begins.
    fn first_day(self, day: Date) -> Option<Date> {
        match self {
            Self::Day => Some(day),
            Self::Week => {
                let past = i64::from(day.weekday().to_monday_zero_offset());
                day.checked_sub(past.days()).ok()
            }
            _ => {
                let months = i32::from(self.months());
                let month = i32::from(day.year()) * 12 + i32::from(day.month()) - 1;
                let first = month.div_euclid(months) * months;
                let year = i16::try_from(first.div_euclid(12)).ok()?;
                let month = i8::try_from(first.rem_euclid(12) + 1).ok()?;
                Date::new(year, month, 1).ok()
            }
        }
    }

    fn next(self, first: Date) -> Option<Date> {
        let step = match self {
            Self::Day => 1.day(),
            Self::Week => 7.days(),
            _ => i32::from(self.months()).months(),
        };
        first.checked_add(step).ok()
    }

    const fn months(self) -> u16 {
        match self {
            Self::Year => 12,
            Self::Months(0) => 1,
            Self::Months(count) => count,
            _ => 1,
        }
    }
}

/// The first instant of a day; where midnight does not exist, the one that follows.
fn midnight(day: Date, zone: &Zone) -> Option<i64> {
    let local = day.to_datetime(jiff::civil::Time::midnight());
    let instant = zone.0.to_ambiguous_timestamp(local).compatible().ok()?;
    Some(instant.as_microsecond())
}

fn elapsed(at: Micros, anchor: Micros, seconds: u32) -> Window {
    let length = i128::from(seconds.max(1)) * 1_000_000;
    let anchor = i128::from(anchor.0);
    let start = anchor + (i128::from(at.0) - anchor).div_euclid(length) * length;
    Window {
        start: Micros(i64::try_from(start).unwrap_or(i64::MIN)),
        end: Micros(i64::try_from(start + length).unwrap_or(i64::MAX)),
    }
}

//! The `date` of answers, written once a second and thread.

use std::cell::Cell;

use schemas::Micros;

/// Bytes of `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

thread_local! {
    /// The second, and its text.
    static LAST: Cell<(i64, [u8; LENGTH])> = const { Cell::new((i64::MIN, [b' '; LENGTH])) };
}

/// The time as HTTP writes it. RFC 9110, section 5.6.7.
pub fn http_date(now: Micros) -> [u8; LENGTH] {
    let second = now.0.div_euclid(1_000_000);
    let (known, text) = LAST.get();
    if known == second {
        return text;
    }
    let text = text_of(second);
    LAST.set((second, text));
    text
}

fn text_of(second: i64) -> [u8; LENGTH] {
    // Outside of jiff's range there is no such time; a clock that says so is wrong anyway.
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    text.as_bytes().try_into().unwrap_or([b' '; LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_standards_example() {
        let example = Micros(784_111_777_000_000);
        for _ in 0..2 {
            assert_eq!(&http_date(example), b"Sun, 06 Nov 1994 08:49:37 GMT");
        }
        assert_eq!(&http_date(Micros(0)), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}

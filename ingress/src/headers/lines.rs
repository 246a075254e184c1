//! The header of an answer, kept as the lines that go over the wire.
//!
//! Some thirty fields stand on every answer. A map of them costs more than everything else that is done to
//! them: a hash, a box and an atomic count each; a line is a copy. Where a map is wanted all the same
//! (answers that a general server sends) it is made from the lines.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemas::NanoUsd;

/// Room for a usual answer's.
const ROOM: usize = 1536;

/// Lines `name: value`, each with its end. Names are in lower case; no value can break out of its line.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Empty, with room for a usual answer's.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::with_capacity(ROOM))
    }

    /// A value that was checked when it was made.
    pub fn put(&mut self, name: &str, value: &HeaderValue) {
        self.line(name, |line| line.extend_from_slice(value.as_bytes()));
    }

    /// A text. Left out if it cannot stand in a header.
    pub fn text(&mut self, name: &str, text: &str) {
        if is_plain(text.as_bytes()) {
            self.line(name, |line| line.extend_from_slice(text.as_bytes()));
        }
    }

    pub fn number(&mut self, name: &str, number: u64) {
        self.line(name, |line| decimal(line, number));
    }

    /// OpenAI's form of a time: `12s`.
    pub fn seconds(&mut self, name: &str, seconds: u64) {
        self.line(name, |line| {
            decimal(line, seconds);
            line.push(b's');
        });
    }

    /// Seconds as LiteLLM writes them: `600.0`.
    pub fn decimal_seconds(&mut self, name: &str, span: Duration) {
        self.line(name, |line| {
            decimal(line, span.as_secs());
            fraction(line, u64::from(span.subsec_millis()), 3);
        });
    }

    /// Milliseconds with three decimals.
    pub fn millis(&mut self, name: &str, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.line(name, |line| {
            decimal(line, micros / 1_000);
            fraction(line, micros % 1_000, 3);
        });
    }

    /// An amount as in `NanoUsd`'s own text, without its allocations: three of these stand on every answer.
    pub fn money(&mut self, name: &str, amount: NanoUsd) {
        const UNIT: u64 = 1_000_000_000;
        self.line(name, |line| {
            if amount.0 < 0 {
                line.push(b'-');
            }
            let magnitude = amount.0.unsigned_abs();
            decimal(line, magnitude / UNIT);
            fraction(line, magnitude % UNIT, 9);
        });
    }

    /// A provider's own field under another name: `prefix` and its name in lower case. A name or a value
    /// that is none is left out.
    pub fn copy(&mut self, prefix: &str, name: &[u8], value: &[u8]) {
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if !name.iter().all(is_token) || !is_plain(value) {
            return;
        }
        self.0.extend_from_slice(prefix.as_bytes());
        self.0.extend(name.iter().map(u8::to_ascii_lowercase));
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        value(&mut self.0);
        self.0.extend_from_slice(b"\r\n");
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&HeaderMap> for Lines {
    fn from(map: &HeaderMap) -> Self {
        let mut lines = Self::default();
        for (name, value) in map {
            lines.put(name.as_str(), value);
        }
        lines
    }
}

impl From<&Lines> for HeaderMap {
    fn from(lines: &Lines) -> Self {
        let pairs = lines.0.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = memchr::memchr(b':', line)?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii_start()).ok()?;
            Some((name, value))
        });
        let mut map = Self::with_capacity(32);
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    }
}

/// Whether it can stand in a header: no line end, no other control character but a tab.
fn is_plain(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t')
}

/// Appends a number in decimal.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a point and `places` digits without trailing zeros, but for the first.
fn fraction(out: &mut Vec<u8>, mut fraction: u64, places: u32) {
    out.push(b'.');
    let mut unit = 10_u64.pow(places - 1);
    loop {
        out.push(b'0' + (fraction / unit) as u8);
        fraction %= unit;
        if fraction == 0 {
            return;
        }
        unit /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tell: impl FnOnce(&mut Lines)) -> String {
        let mut lines = Lines::new();
        tell(&mut lines);
        String::from_utf8(lines.0).unwrap()
    }

    #[test]
    fn money_reads_as_everywhere_else() {
        for amount in [
            0,
            1,
            10,
            999_999_999,
            1_000_000_000,
            1_050_000_000,
            -40,
            i64::MAX,
            i64::MIN + 1,
        ] {
            let amount = NanoUsd(amount);
            assert_eq!(
                shown(|lines| lines.money("m", amount)),
                format!("m: {amount}\r\n")
            );
        }
    }

    #[test]
    fn times_and_numbers_are_as_clients_know_them() {
        let millis = |micros| shown(|lines| lines.millis("t", Duration::from_micros(micros)));
        assert_eq!(millis(12_345), "t: 12.345\r\n");
        assert_eq!(millis(500), "t: 0.5\r\n");
        assert_eq!(millis(0), "t: 0.0\r\n");
        assert_eq!(shown(|lines| lines.seconds("s", 60)), "s: 60s\r\n");
        let seconds =
            |millis| shown(|lines| lines.decimal_seconds("s", Duration::from_millis(millis)));
        assert_eq!(seconds(600_000), "s: 600.0\r\n");
        assert_eq!(seconds(1_250), "s: 1.25\r\n");
        assert_eq!(
            shown(|lines| lines.number("n", u64::MAX)),
            "n: 18446744073709551615\r\n"
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let lines = shown(|lines| {
            lines.text("a", "x\r\nset-cookie: y");
            lines.copy("p-", b"na\r\nme", b"v");
            lines.copy("p-", b"name", b"v\nw");
            lines.copy("p-", b"Name", b"v w");
        });
        assert_eq!(lines, "p-name: v w\r\n");
    }

    #[test]
    fn a_map_holds_the_same() {
        let mut lines = Lines::new();
        lines.text("a", "1: 2");
        lines.copy("b-", b"C", b"");
        lines.text("a", "3");
        let map = HeaderMap::from(&lines);
        let told: Vec<_> = map
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
            .collect();
        assert_eq!(told, [("a", "1: 2"), ("a", "3"), ("b-c", "")]);
        assert_eq!(Lines::from(&map).0, b"a: 1: 2\r\na: 3\r\nb-c: \r\n");
    }
}

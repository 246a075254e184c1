//! Finding what an answer says without parsing it. What a provider sends is passed on whatever is wrong
//! inside it; what clients send is checked by [`crate::request`].
//!
//! A JSON text never holds an unescaped quote inside a string, so the bytes of a quoted name followed by a
//! colon are a key and nothing else, at whatever depth.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

/// A key that is looked for, prepared once: that costs more than a search.
pub struct Key {
    length: usize,
    finder: Finder<'static>,
}

impl Key {
    /// `quoted` is the name in its quotes.
    #[must_use]
    pub fn new(quoted: &'static str) -> Self {
        Self {
            length: quoted.len(),
            finder: Finder::new(quoted),
        }
    }

    /// Where the first value of the key begins.
    #[must_use]
    pub fn first(&self, data: &[u8]) -> Option<usize> {
        self.after(data, 0)
    }

    /// Where the first value of the key behind a place begins.
    #[must_use]
    pub fn after(&self, data: &[u8], from: usize) -> Option<usize> {
        let mut from = from;
        loop {
            let at = from + self.finder.find(data.get(from..)?)?;
            from = at + self.length;
            if let Some(value) = value_behind(data, from) {
                return Some(value);
            }
        }
    }
}

/// The keys that answers are searched for.
pub struct Keys {
    pub model: Key,
    pub usage: Key,
    pub service_tier: Key,
    pub finish_reason: Key,
    pub choices: Key,
    pub content: Key,
    pub text: Key,
    pub role: Key,
    pub tool_calls: Key,
    pub kind: Key,
    pub seconds: Key,
    pub duration: Key,
    pub search_units: Key,
    pub b64_json: Key,
    pub url: Key,
}

/// Made when first needed, for all threads.
pub static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    model: Key::new("\"model\""),
    usage: Key::new("\"usage\""),
    service_tier: Key::new("\"service_tier\""),
    finish_reason: Key::new("\"finish_reason\""),
    choices: Key::new("\"choices\""),
    content: Key::new("\"content\""),
    text: Key::new("\"text\""),
    role: Key::new("\"role\""),
    tool_calls: Key::new("\"tool_calls\""),
    kind: Key::new("\"type\""),
    seconds: Key::new("\"seconds\""),
    duration: Key::new("\"duration\""),
    search_units: Key::new("\"search_units\""),
    b64_json: Key::new("\"b64_json\""),
    url: Key::new("\"url\""),
});

/// Where the value of the key that ends at `key_end` begins; `None` when no colon follows.
#[must_use]
pub fn value_behind(data: &[u8], key_end: usize) -> Option<usize> {
    let colon = space(data, key_end);
    (data.get(colon) == Some(&b':')).then(|| space(data, colon + 1))
}

/// The string that begins at `at`, as it stands, and where it ends.
#[must_use]
pub fn string_at(data: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let begin = at + 1;
    let mut from = begin;
    loop {
        let found = from + memchr2(b'"', b'\\', data.get(from..)?)?;
        if data[found] == b'"' {
            return Some((&data[begin..found], found + 1));
        }
        from = found + 2;
    }
}

/// The text of the string without escapes that begins at `at`.
#[must_use]
pub fn text_at(data: &[u8], at: usize) -> Option<&str> {
    let rest = data.get(at..)?.strip_prefix(b"\"")?;
    let end = memchr2(b'"', b'\\', rest)?;
    if rest[end] == b'\\' {
        return None;
    }
    std::str::from_utf8(&rest[..end]).ok()
}

/// The number that begins at `at`, `None` if it is not whole, and where it ends.
#[must_use]
pub fn integer_at(data: &[u8], at: usize) -> (Option<i64>, usize) {
    let text = number_at(data, at);
    (text.parse().ok(), at + text.len())
}

/// The text of the number that begins at `at`.
#[must_use]
pub fn number_at(data: &[u8], at: usize) -> &str {
    let rest = data.get(at..).unwrap_or_default();
    let of_number = |b: &&u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let end = rest.iter().take_while(of_number).count();
    std::str::from_utf8(&rest[..end]).unwrap_or_default()
}

/// Whether the list that begins at `at` is empty.
#[must_use]
pub fn is_empty_list(data: &[u8], at: usize) -> bool {
    data.get(at) == Some(&b'[') && data.get(space(data, at + 1)) == Some(&b']')
}

fn space(data: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = data.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_texts_that_look_like_them_are_not() {
        let data = br#"{"a":"usage","b":"\"usage\":1","usage" : {"x":[1]},"c":{"usage":2}}"#;
        let first = KEYS.usage.first(data).unwrap();
        assert_eq!(&data[first..first + 9], br#"{"x":[1]}"#);
        let second = KEYS.usage.after(data, first).unwrap();
        assert_eq!(data[second], b'2');
        assert_eq!(KEYS.usage.after(data, second), None);
        assert_eq!(KEYS.model.first(data), None);
        assert_eq!(KEYS.usage.first(b"{\"usage\""), None);
    }

    #[test]
    fn values_are_read() {
        assert_eq!(text_at(b" \"stop\"", 1), Some("stop"));
        assert_eq!(text_at(b"\"a\\n\"", 0), None);
        assert_eq!(string_at(b"\"a\\\"b\",", 0), Some((&b"a\\\"b"[..], 6)));
        assert_eq!(string_at(b"\"a", 0), None);
        assert!(is_empty_list(b"[ ]", 0) && !is_empty_list(b"[1]", 0));
        let table = [
            ("12,", Some(12), 2),
            ("-3", Some(-3), 2),
            ("1.0}", None, 3),
            ("1e3", None, 3),
            ("x", None, 0),
        ];
        for (text, number, end) in table {
            assert_eq!(integer_at(text.as_bytes(), 0), (number, end), "{text}");
        }
    }
}

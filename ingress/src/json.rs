//! A walk over the members of a JSON object, for answers: finds where values lie and does not look into
//! them. What a provider sends is passed on whatever is wrong inside it; what clients send is checked by
//! [`crate::request`].

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::{Finder, FinderRev};

/// The members of an object in their order.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    data: &'a [u8],
    at: usize,
    first: bool,
}

/// One member: its name without quotes, as it stands, and where its value lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    pub at: Range<usize>,
}

/// The text is not what it began as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    pub at: usize,
}

impl<'a> Members<'a> {
    /// # Errors
    /// When the text does not begin an object.
    pub fn of(data: &'a [u8]) -> Result<Self, Broken> {
        let at = space(data, 0);
        if data.get(at) != Some(&b'{') {
            return Err(Broken { at });
        }
        Ok(Self {
            data,
            at: at + 1,
            first: true,
        })
    }

    fn step(&mut self) -> Result<Option<Member<'a>>, Broken> {
        let data = self.data;
        let mut at = space(data, self.at);
        match data.get(at) {
            Some(b'}') => {
                self.at = at;
                return Ok(None);
            }
            Some(b',') if !self.first => at = space(data, at + 1),
            Some(_) if self.first => {}
            _ => return Err(Broken { at }),
        }
        self.first = false;
        if data.get(at) != Some(&b'"') {
            return Err(Broken { at });
        }
        let end = string_end(data, at)?;
        let name = &data[at + 1..end - 1];
        at = space(data, end);
        if data.get(at) != Some(&b':') {
            return Err(Broken { at });
        }
        let from = space(data, at + 1);
        let to = value_end(data, from)?;
        self.at = to;
        Ok(Some(Member {
            name,
            value: &data[from..to],
            at: from..to,
        }))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// A whole number.
#[must_use]
pub fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Where the value that begins at `from` ends.
///
/// # Errors
/// When it does not end.
fn value_end(data: &[u8], from: usize) -> Result<usize, Broken> {
    match data.get(from) {
        Some(b'"') => string_end(data, from),
        Some(b'{' | b'[') => nested_end(data, from),
        Some(_) => {
            let rest = &data[from..];
            let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            match rest.iter().position(ends) {
                Some(length) if length > 0 => Ok(from + length),
                _ => Err(Broken { at: from }),
            }
        }
        None => Err(Broken { at: from }),
    }
}

/// Just behind the bracket that closes the one at `from`.
fn nested_end(data: &[u8], from: usize) -> Result<usize, Broken> {
    let mut depth = 0_u32;
    let mut at = from;
    // An outer step goes from one string to the next: what lies between is read byte by byte.
    loop {
        let rest = data.get(at..).unwrap_or_default();
        let mut string = None;
        for (offset, byte) in rest.iter().enumerate() {
            match byte {
                b'"' => {
                    string = Some(at + offset);
                    break;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(at + offset + 1);
                    }
                }
                _ => {}
            }
        }
        at = string_end(data, string.ok_or(Broken { at: data.len() })?)?;
    }
}

/// Just behind the closing quote of the string that opens at `from`.
fn string_end(data: &[u8], from: usize) -> Result<usize, Broken> {
    let broken = Broken { at: data.len() };
    let mut at = from + 1;
    loop {
        let rest = data.get(at..).ok_or(broken)?;
        let found = memchr2(b'"', b'\\', rest).ok_or(broken)?;
        if rest[found] == b'"' {
            return Ok(at + found + 1);
        }
        at += found + 2;
    }
}

/// A key that is looked for, prepared once: that costs more than a search.
///
/// A JSON text never holds an unescaped quote inside a string, so the bytes of a quoted key followed by a
/// colon are a key and nothing else, at whatever depth.
pub struct Key {
    length: usize,
    forward: Finder<'static>,
    backward: FinderRev<'static>,
}

impl Key {
    /// `quoted` is the name in its quotes.
    #[must_use]
    pub fn new(quoted: &'static str) -> Self {
        Self {
            length: quoted.len(),
            forward: Finder::new(quoted),
            backward: FinderRev::new(quoted),
        }
    }

    /// Where the first value of the key begins.
    #[must_use]
    pub fn first(&self, data: &[u8]) -> Option<usize> {
        self.forward
            .find_iter(data)
            .find_map(|at| value_behind(data, at + self.length))
    }

    /// Where the last one begins.
    #[must_use]
    pub fn last(&self, data: &[u8]) -> Option<usize> {
        self.backward
            .rfind_iter(data)
            .find_map(|at| value_behind(data, at + self.length))
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
    pub role: Key,
    pub tool_calls: Key,
}

/// Made when first needed, for all threads.
pub static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    model: Key::new("\"model\""),
    usage: Key::new("\"usage\""),
    service_tier: Key::new("\"service_tier\""),
    finish_reason: Key::new("\"finish_reason\""),
    choices: Key::new("\"choices\""),
    content: Key::new("\"content\""),
    role: Key::new("\"role\""),
    tool_calls: Key::new("\"tool_calls\""),
});

fn value_behind(data: &[u8], key_end: usize) -> Option<usize> {
    let colon = space(data, key_end);
    (data.get(colon) == Some(&b':')).then(|| space(data, colon + 1))
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

/// The object or list that begins at `at`.
#[must_use]
pub fn nested_at(data: &[u8], at: usize) -> Option<&[u8]> {
    matches!(data.get(at)?, b'{' | b'[')
        .then(|| nested_end(data, at).ok().map(|end| &data[at..end]))?
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

    fn walk(text: &str) -> Result<Vec<(String, String)>, usize> {
        let show = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Members::of(text.as_bytes())
            .map_err(|broken| broken.at)?
            .map(|member| {
                member
                    .map(|m| (show(m.name), show(m.value)))
                    .map_err(|broken| broken.at)
            })
            .collect()
    }

    #[test]
    fn members_and_their_places_are_found() {
        let text = r#" { "a" : 1 , "b":{"x":[1,"}"],"y":"\"]"} ,"c":"é\\", "d":[ ] ,"e":null}"#;
        let found = walk(text).unwrap();
        let wanted = [
            ("a", "1"),
            ("b", r#"{"x":[1,"}"],"y":"\"]"}"#),
            ("c", r#""é\\""#),
            ("d", "[ ]"),
            ("e", "null"),
        ];
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(found, wanted);
        for member in Members::of(text.as_bytes()).unwrap() {
            let member = member.unwrap();
            assert_eq!(&text.as_bytes()[member.at.clone()], member.value);
        }
        assert_eq!(walk("{}"), Ok(vec![]));
    }

    #[test]
    fn keys_are_found_and_texts_that_look_like_them_are_not() {
        let data = br#"{"a":"usage","b":"\"usage\":1","usage" : {"x":[1]},"c":{"usage":2}}"#;
        let first = KEYS.usage.first(data).unwrap();
        assert_eq!(nested_at(data, first), Some(&br#"{"x":[1]}"#[..]));
        assert_eq!(data[KEYS.usage.last(data).unwrap()], b'2');
        assert_eq!(KEYS.model.first(data), None);
    }

    #[test]
    fn what_breaks_off_is_noticed() {
        let text = r#"{"a":1,"b":{"x":[1,"}"]},"c":"d"}"#;
        for end in 0..text.len() {
            assert!(walk(&text[..end]).is_err(), "{}", &text[..end]);
        }
        for broken in [
            "[1]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\":,\"b\":1}",
        ] {
            assert!(walk(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn scalars_are_read() {
        assert_eq!(text_at(b" \"stop\"", 1), Some("stop"));
        assert_eq!(text_at(b"\"a\\n\"", 0), None);
        assert!(is_empty_list(b"[ ]", 0) && !is_empty_list(b"[1]", 0));
        assert_eq!(
            (
                integer(b"12"),
                integer(b"-3"),
                integer(b"1.0"),
                integer(b"null")
            ),
            (Some(12), Some(-3), None, None)
        );
    }
}

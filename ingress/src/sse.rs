//! Server-sent events as they lie in bytes: where one ends, what it is called, what it says. Nothing is decoded, and
//! the usual event (one line `data: …`) is not copied.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>

use std::borrow::Cow;

use crate::json;

/// Where a frame ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Bytes of it, its blank line included.
    pub length: usize,
    /// It has one line.
    pub single: bool,
}

/// The end of the first frame, whichever way lines end; none if it has not come.
#[must_use]
pub fn end(bytes: &[u8]) -> Option<End> {
    let mut lines = memchr::memchr_iter(b'\n', bytes).enumerate();
    lines.find_map(|(nth, at)| {
        let length = match bytes.get(at + 1..)? {
            [b'\n', ..] => at + 2,
            [b'\r', b'\n', ..] => at + 3,
            _ => return None,
        };
        Some(End {
            length,
            single: nth == 0,
        })
    })
}

/// Where the first frame begins that is more than a comment: some providers keep a connection alive with those
/// while they wait themselves.
#[must_use]
pub fn behind_comments(bytes: &[u8]) -> usize {
    let mut at = 0;
    // The usual stream is over with the first comparison.
    while let Some(b':' | b'\n' | b'\r') = bytes.get(at) {
        let line = memchr::memchr(b'\n', &bytes[at..]);
        at = line.map_or(bytes.len(), |end| at + end + 1);
    }
    at
}

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `event`, where it has a name.
    pub name: Option<&'a str>,
    /// Without white space around it.
    pub data: Cow<'a, [u8]>,
}

impl<'a> Event<'a> {
    /// Reads a frame, of a `single` line or not. None without data: a comment, a hint when to come again.
    #[must_use]
    pub fn of(frame: &'a [u8], single: bool) -> Option<Self> {
        if single {
            let data = frame.strip_prefix(b"data:")?.trim_ascii();
            return Some(Self {
                name: None,
                data: Cow::Borrowed(data),
            });
        }
        let (mut name, mut data) = (None, None::<Cow<'a, [u8]>>);
        for line in frame.split(|byte| *byte == b'\n') {
            if let Some(text) = line.strip_prefix(b"event:") {
                name = std::str::from_utf8(text.trim_ascii()).ok();
            } else if let Some(text) = line.strip_prefix(b"data:") {
                let text = text.trim_ascii();
                data = Some(match data {
                    None => Cow::Borrowed(text),
                    // A text in several lines is one.
                    Some(before) => Cow::Owned([&before, &b"\n"[..], text].concat()),
                });
            }
        }
        Some(Self { name, data: data? })
    }

    /// Whether it says that something went wrong: it is called so, or its first member is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.name == Some("error") || begins_with_error(&self.data)
    }
}

/// Whether a JSON object's first member is an error, and not `null`.
#[must_use]
pub fn begins_with_error(object: &[u8]) -> bool {
    const KEY: &[u8] = b"\"error\"";
    let Some(rest) = object.strip_prefix(b"{") else {
        return false;
    };
    let rest = rest.trim_ascii_start();
    rest.starts_with(KEY)
        && json::value_behind(rest, KEY.len()).is_some_and(|at| !rest[at..].starts_with(b"null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frame: &str) -> Option<(Option<&str>, String)> {
        let end = end(frame.as_bytes()).unwrap();
        assert_eq!(end.length, frame.len());
        let event = Event::of(frame.as_bytes(), end.single)?;
        let data = String::from_utf8(event.data.into_owned()).unwrap();
        Some((event.name, data))
    }

    #[test]
    fn events_of_every_form_are_read() {
        let table = [
            ("data: {}\n\n", Some((None, "{}"))),
            ("data:{}\r\n\r\n", Some((None, "{}"))),
            ("event: x\ndata: {}\n\n", Some((Some("x"), "{}"))),
            ("event: x\r\ndata: {}\r\n\r\n", Some((Some("x"), "{}"))),
            ("id: 7\nretry: 5\ndata: {}\n\n", Some((None, "{}"))),
            (": hi\ndata: {}\n\n", Some((None, "{}"))),
            ("data: {\"a\":\ndata: 1}\n\n", Some((None, "{\"a\":\n1}"))),
            (": a comment\n\n", None),
            ("retry: 5\n\n", None),
        ];
        for (frame, wanted) in table {
            let wanted = wanted.map(|(name, data)| (name, data.to_owned()));
            assert_eq!(read(frame), wanted, "{frame:?}");
        }
        for open in ["", "data: {}", "data: {}\n", "data: {}\r\n\r"] {
            assert_eq!(end(open.as_bytes()), None, "{open:?}");
        }
    }

    #[test]
    fn errors_are_told_from_answers() {
        for (data, is) in [
            ("{\"error\":{\"message\":\"x\"}}", true),
            ("{ \"error\" : \"x\"}", true),
            ("{\"error\": null}", false),
            ("{\"id\":\"x\",\"error\":{}}", false),
            ("{\"errors\":1}", false),
            ("[\"error\"]", false),
        ] {
            assert_eq!(begins_with_error(data.as_bytes()), is, "{data}");
        }
        let named = Event::of(b"event: error\ndata: {\"message\":\"x\"}\n\n", false);
        assert!(named.unwrap().is_error());
    }

    #[test]
    fn comments_are_stepped_over() {
        let at = |text: &str| behind_comments(text.as_bytes());
        assert_eq!(at("data: x"), 0);
        assert_eq!(at(": a\n\n: b\r\n\r\ndata"), 12);
        assert_eq!(at(": a"), 3);
        assert_eq!(at(""), 0);
    }
}

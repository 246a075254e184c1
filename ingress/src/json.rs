//! A walk over the members of a JSON object, for answers: finds where values lie and does not look into
//! them. What a provider sends is passed on whatever is wrong inside it; what clients send is checked by
//! [`crate::request`].

use std::ops::Range;

use memchr::memchr2;

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

/// The text of a string without escapes.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        return None;
    }
    std::str::from_utf8(inner).ok()
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
pub fn value_end(data: &[u8], from: usize) -> Result<usize, Broken> {
    let mut depth = 0_usize;
    let mut at = from;
    while let Some(byte) = data.get(at) {
        match byte {
            b'"' => {
                at = string_end(data, at)?;
                if depth == 0 {
                    return Ok(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth == 0 {
                    // The end of what holds it.
                    return if at > from {
                        Ok(at)
                    } else {
                        Err(Broken { at })
                    };
                }
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => {
                return if at > from {
                    Ok(at)
                } else {
                    Err(Broken { at })
                };
            }
            _ => {}
        }
        at += 1;
    }
    Err(Broken { at })
}

/// Just behind the closing quote of the string that opens at `from`.
fn string_end(data: &[u8], from: usize) -> Result<usize, Broken> {
    let mut at = from + 1;
    loop {
        let rest = data.get(at..).ok_or(Broken { at })?;
        let found = memchr2(b'"', b'\\', rest).ok_or(Broken { at: data.len() })?;
        if rest[found] == b'"' {
            return Ok(at + found + 1);
        }
        at += found + 2;
    }
}

fn space(data: &[u8], from: usize) -> usize {
    let rest = data.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|b| b.is_ascii_whitespace()).count()
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
        assert_eq!(text(b"\"stop\""), Some("stop"));
        assert_eq!(text(b"\"a\\n\""), None);
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

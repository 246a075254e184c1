//! Forms with a file (`multipart/form-data`, RFC 7578), read in place: which bytes are the value of which
//! field. The file itself is not looked at.

use std::ops::Range;

use memchr::memmem;

/// A field of a form.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub name: &'a str,
    /// Where its value lies in the body.
    pub value: Range<usize>,
}

/// The boundary that a content type names; `None` when it is no form.
#[must_use]
pub fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then_some(value)
    })
}

/// The fields of a form, in order.
///
/// # Errors
/// What is wrong with it.
pub fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, &'static str> {
    // A boundary begins a line, and the line's end before it belongs to it.
    let delimiter = format!("\r\n--{boundary}");
    let opening = &delimiter.as_bytes()[2..];
    let start = if body.starts_with(opening) {
        0
    } else {
        memmem::find(body, delimiter.as_bytes()).ok_or("it does not hold its own boundary")? + 2
    };
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut at = start + opening.len();
    let mut found = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            return Ok(found);
        }
        let line = memmem::find(rest, b"\r\n").ok_or("it ends early")?;
        let head = at + line + 2;
        let blank =
            memmem::find(&body[head..], b"\r\n\r\n").ok_or("a part has no end of its head")?;
        let value = head + blank + 4;
        let end = value + finder.find(&body[value..]).ok_or("it ends early")?;
        if let Some(name) = name(&body[head..head + blank]) {
            found.push(Part {
                name,
                value: value..end,
            });
        }
        at = end + delimiter.len();
    }
}

/// `name` of a part's `content-disposition`.
fn name(head: &[u8]) -> Option<&str> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").find_map(|line| {
        let (field, value) = line.split_once(':')?;
        if !field.trim().eq_ignore_ascii_case("content-disposition") {
            return None;
        }
        value.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            (name.trim() == "name").then(|| value.trim().trim_matches('"'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\
        \0--x\r\n\r\n\r\n--x--\r\n";

    #[test]
    fn values_are_found_where_they_lie() {
        let parts = parts(FORM.as_bytes(), "x").unwrap();
        let shown: Vec<_> = parts
            .iter()
            .map(|part| (part.name, &FORM[part.value.clone()]))
            .collect();
        assert_eq!(shown, [("model", "whisper-1"), ("file", "\0--x\r\n\r\n")]);
    }

    #[test]
    fn broken_forms_say_what_is_wrong() {
        assert!(parts(b"", "x").is_err());
        assert!(parts(b"--x", "x").is_err());
        for cut in 1..FORM.len() - 4 {
            assert!(parts(&FORM.as_bytes()[..cut], "x").is_err(), "{cut}");
        }
    }

    #[test]
    fn the_boundary_is_read_from_the_content_type() {
        assert_eq!(
            boundary("multipart/form-data; charset=utf-8; boundary=\"ab c\""),
            Some("ab c")
        );
        assert_eq!(boundary("application/json"), None);
        assert_eq!(boundary("multipart/form-data; boundary="), None);
    }
}

//! Changes to a JSON text as splices at known offsets: what is not changed is never re-serialised.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Splices, applied together. Ranges must not overlap.
#[derive(Debug, Default)]
pub struct Edits(Vec<(Range<usize>, Bytes)>);

impl Edits {
    /// Puts `with` in the place of `range`.
    pub fn replace(&mut self, range: Range<usize>, with: impl Into<Bytes>) {
        self.0.push((range, with.into()));
    }

    /// Puts `text` at `offset`.
    pub fn insert(&mut self, offset: usize, text: impl Into<Bytes>) {
        self.replace(offset..offset, text);
    }

    /// Takes the member whose value lies at `value` out of its object, with its comma.
    pub fn remove_member(&mut self, body: &[u8], value: Range<usize>) {
        let key = key_start(body, value.start);
        let after = skip_space(body, value.end);
        if body.get(after) == Some(&b',') {
            self.replace(key..after + 1, Bytes::new());
            return;
        }
        let before = body[..key].iter().rposition(|b| !b.is_ascii_whitespace());
        let start = match before {
            Some(at) if body[at] == b',' => at,
            _ => key,
        };
        self.replace(start..value.end, Bytes::new());
    }

    /// The edited text; the very bytes that came in when there is nothing to edit.
    #[must_use]
    pub fn apply(mut self, body: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return body.clone();
        }
        self.0.sort_by_key(|(range, _)| range.start);
        let grown: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut out = BytesMut::with_capacity(body.len() + grown);
        let mut from = 0;
        for (range, text) in &self.0 {
            out.extend_from_slice(&body[from..range.start]);
            out.extend_from_slice(text);
            from = range.end;
        }
        out.extend_from_slice(&body[from..]);
        out.freeze()
    }
}

/// Where the key before a value begins, given valid JSON.
fn key_start(body: &[u8], value: usize) -> usize {
    let mut at = value;
    // Back over the colon to the key's closing quote, then to the quote that opens it: one that an
    // even number of backslashes precedes.
    while at > 0 && body[at - 1] != b'"' {
        at -= 1;
    }
    at = at.saturating_sub(1);
    while at > 0 {
        at -= 1;
        let slashes = body[..at].iter().rev().take_while(|b| **b == b'\\').count();
        if body[at] == b'"' && slashes % 2 == 0 {
            break;
        }
    }
    at
}

fn skip_space(body: &[u8], from: usize) -> usize {
    let space = body[from..].iter().take_while(|b| b.is_ascii_whitespace());
    from + space.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(body: &str, value: &str) -> String {
        let start = body.find(value).unwrap();
        let mut edits = Edits::default();
        edits.remove_member(body.as_bytes(), start..start + value.len());
        let out = edits.apply(&Bytes::copy_from_slice(body.as_bytes()));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_member_goes_with_its_comma() {
        assert_eq!(
            removed(r#"{"a":1,"c":{"x":2}}"#, r#"{"x":2}"#),
            r#"{"a":1}"#
        );
        assert_eq!(
            removed(r#"{"c" : {"x":2} , "a":1}"#, r#"{"x":2}"#),
            r#"{ "a":1}"#
        );
        assert_eq!(
            removed(r#"{"a":1 ,"c":9, "b":2}"#, "9"),
            r#"{"a":1 , "b":2}"#
        );
        assert_eq!(removed(r#"{"c":9}"#, "9"), "{}");
        assert_eq!(removed(r#"{"a\"b":9,"d":1}"#, "9"), r#"{"d":1}"#);
    }

    #[test]
    fn nothing_to_edit_is_the_same_memory() {
        let body = Bytes::from_static(b"{}");
        assert_eq!(Edits::default().apply(&body).as_ptr(), body.as_ptr());
    }

    #[test]
    fn splices_apply_in_order_of_place() {
        let mut edits = Edits::default();
        edits.replace(6..7, "3");
        edits.insert(1, "\"n\":0,");
        let out = edits.apply(&Bytes::from_static(b"{\"a\": 1}"));
        assert_eq!(&out[..], b"{\"n\":0,\"a\": 3}");
    }
}

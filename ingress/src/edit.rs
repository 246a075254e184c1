//! Changes to a JSON text as splices at known offsets: what is not changed is never re-serialised.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Splices, applied together. Ranges must not overlap.
#[derive(Debug, Default)]
pub struct Edits {
    splices: Vec<(Range<usize>, Bytes)>,
    /// Members to be taken out, key to value.
    removed: Vec<Range<usize>>,
}

impl Edits {
    /// Puts `with` in the place of `range`.
    pub fn replace(&mut self, range: Range<usize>, with: impl Into<Bytes>) {
        self.splices.push((range, with.into()));
    }

    /// Puts `text` at `offset`.
    pub fn insert(&mut self, offset: usize, text: impl Into<Bytes>) {
        self.replace(offset..offset, text);
    }

    /// Takes the member whose value lies at `value` out of its object, with its comma.
    pub fn remove_member(&mut self, body: &[u8], value: Range<usize>) {
        let key = key_start(body, value.start);
        self.removed.push(key..value.end);
    }

    /// Gives the member whose value lies at `value` another name.
    pub fn rename_member(&mut self, body: &[u8], value: Range<usize>, name: &str) {
        let key = key_start(body, value.start);
        // Up to the colon: what lies between key and value is white space beside it.
        let colon = body[key..value.start].iter().rposition(|b| *b == b':');
        if let Some(colon) = colon {
            self.replace(key..key + colon, format!("\"{name}\""));
        }
    }

    /// Turns removed members into splices. Neighbours go together, so that each comma goes once.
    fn take_out(&mut self, body: &[u8]) {
        self.removed.sort_by_key(|member| member.start);
        let mut runs: Vec<Range<usize>> = Vec::with_capacity(self.removed.len());
        for member in self.removed.drain(..) {
            match runs.last_mut() {
                Some(run) if run.end >= member.start => run.end = run.end.max(member.end),
                Some(run) if only_a_comma(&body[run.end..member.start]) => run.end = member.end,
                _ => runs.push(member),
            }
        }
        for run in runs {
            let after = skip_space(body, run.end);
            let before = body[..run.start]
                .iter()
                .rposition(|b| !b.is_ascii_whitespace());
            let range = match before {
                _ if body.get(after) == Some(&b',') => run.start..after + 1,
                Some(at) if body[at] == b',' => at..run.end,
                _ => run,
            };
            self.splices.push((range, Bytes::new()));
        }
    }

    /// The edited text; the very bytes that came in when there is nothing to edit.
    #[must_use]
    pub fn apply(mut self, body: &Bytes) -> Bytes {
        if !self.removed.is_empty() {
            self.take_out(body);
        }
        if self.splices.is_empty() {
            return body.clone();
        }
        // What is put in before a member that goes, first.
        self.splices
            .sort_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.splices.iter().map(|(_, text)| text.len()).sum();
        let mut out = BytesMut::with_capacity(body.len() + grown);
        let mut from = 0;
        for (range, text) in &self.splices {
            // Inside of what is gone already.
            if range.start < from {
                continue;
            }
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

fn only_a_comma(between: &[u8]) -> bool {
    between.trim_ascii() == b","
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
    fn members_side_by_side_go_with_one_comma_each() {
        let cases: [(&str, &[&str], &str); 4] = [
            (r#"{"m":0,"a":1,"b":2}"#, &["1", "2"], r#"{"m":0}"#),
            (r#"{"a":1, "b":2 , "m":0}"#, &["1", "2"], r#"{ "m":0}"#),
            (
                r#"{"a":1,"m":0,"b":2,"c":3}"#,
                &["1", "2", "3"],
                r#"{"m":0}"#,
            ),
            (r#"{"a":1,"b":2}"#, &["1", "2"], "{}"),
        ];
        for (body, values, wanted) in cases {
            let mut edits = Edits::default();
            for value in values {
                let at = body.find(&format!(":{value}")).unwrap() + 1;
                edits.remove_member(body.as_bytes(), at..at + 1);
            }
            let out = edits.apply(&Bytes::copy_from_slice(body.as_bytes()));
            assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
        }
    }

    #[test]
    fn a_member_gets_another_name() {
        let body = Bytes::from_static(br#"{"max_tokens" : 5}"#);
        let mut edits = Edits::default();
        edits.rename_member(&body, 16..17, "n");
        assert_eq!(&edits.apply(&body)[..], br#"{"n": 5}"#);
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

    #[test]
    fn a_member_may_come_where_the_first_goes() {
        let body = Bytes::from_static(b"{\"a\":1,\"b\":2}");
        let mut edits = Edits::default();
        edits.remove_member(&body, 5..6);
        edits.insert(1, "\"n\":0,");
        assert_eq!(&edits.apply(&body)[..], b"{\"n\":0,\"b\":2}");
    }
}

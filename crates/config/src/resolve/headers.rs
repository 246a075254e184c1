//! Headers that go out with calls, and names that can be one.

use crate::Secret;
use crate::view::View;

pub(super) fn headers(params: &View<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for section in ["extra_headers", "headers"] {
        headers.extend(headers_of(&params.at(section)));
    }
    headers
}

/// A mapping of headers.
pub(super) fn headers_of(section: &View<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, view) in section.entries() {
        match view.secret() {
            _ if !is_token(&name) => view.error("is not a header name"),
            Some(value)
                if value
                    .expose()
                    .bytes()
                    .any(|b| b < b' ' && b != b'\t' || b == 0x7f) =>
            {
                view.error("holds a line break or another character that a header cannot carry");
            }
            Some(value) => headers.push((name.to_ascii_lowercase(), value)),
            None => {}
        }
    }
    headers
}

/// Whether it can be the name of a header.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

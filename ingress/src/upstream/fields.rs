//! The header of an answer as it came: names and values as slices of what was read. Nothing is hashed, and
//! nothing is copied.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

/// Names and values in their order.
#[derive(Debug, Default, Clone)]
pub struct Fields(Vec<(Bytes, HeaderValue)>);

impl Fields {
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub fn push(&mut self, name: Bytes, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// The first value of a name, given in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// All of them, in the order in which they came.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &HeaderValue)> + Clone {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let fields = map.iter().map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_str().as_bytes()),
                value.clone(),
            )
        });
        Self(fields.collect())
    }
}

//! The model's name in the frames of a stream: what the provider calls it goes, what the client asked for comes.

use bytes::{Bytes, BytesMut};
use memchr::memmem::{self, Finder};

use crate::json::{KEYS, text_at};

/// How the name is sent on.
#[derive(Debug)]
pub struct Name {
    /// The JSON string of the name that the client asked for.
    asked: Bytes,
    theirs: Theirs,
}

/// What the provider says: the same in all frames of a stream.
#[derive(Debug)]
enum Theirs {
    /// The first frame decides.
    Unknown,
    AsAsked,
    /// Replaced in every frame: the very bytes to look for, where in them the name's value begins, and
    /// its length.
    Other {
        find: Box<Finder<'static>>,
        value_at: usize,
        value_len: usize,
    },
}

impl Name {
    #[must_use]
    pub fn new(asked: &str) -> Self {
        Self {
            // A string always serialises.
            asked: serde_json::to_string(asked).unwrap_or_default().into(),
            theirs: Theirs::Unknown,
        }
    }

    /// No frame has named the model so far.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self.theirs, Theirs::Unknown)
    }

    /// A frame with the name in its place; none where there is nothing to replace.
    pub fn in_place(&mut self, frame: &[u8]) -> Option<Bytes> {
        if self.is_unknown() {
            self.learn(frame);
        }
        let Theirs::Other {
            find,
            value_at,
            value_len,
        } = &self.theirs
        else {
            return None;
        };
        let key = find.find(frame)?;
        let value = key + value_at..key + value_at + value_len;
        let mut renamed = BytesMut::with_capacity(frame.len() + self.asked.len());
        renamed.extend_from_slice(&frame[..value.start]);
        renamed.extend_from_slice(&self.asked);
        renamed.extend_from_slice(&frame[value.end..]);
        Some(renamed.freeze())
    }

    fn learn(&mut self, frame: &[u8]) {
        let Some(at) = KEYS.model.first(frame) else {
            return;
        };
        let Some(text) = text_at(frame, at) else {
            return;
        };
        // With its quotes.
        let value_len = text.len() + 2;
        if frame[at..at + value_len] == self.asked[..] {
            self.theirs = Theirs::AsAsked;
            return;
        }
        let key = memmem::rfind(&frame[..at], b"\"model\"").unwrap_or(at);
        self.theirs = Theirs::Other {
            find: Box::new(Finder::new(&frame[key..at + value_len]).into_owned()),
            value_at: at - key,
            value_len,
        };
    }
}

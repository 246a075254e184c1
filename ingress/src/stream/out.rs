//! What goes on to the client in one write.

use bytes::{Bytes, BytesMut};

/// What is sent on: nothing copied while it is one piece.
#[derive(Debug, Default)]
pub struct Out {
    one: Option<Bytes>,
    many: BytesMut,
}

impl Out {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.many.is_empty() {
            match self.one.take() {
                None => {
                    self.one = Some(bytes);
                    return;
                }
                Some(first) => {
                    self.many.reserve((first.len() + bytes.len()) * 2);
                    self.many.extend_from_slice(&first);
                }
            }
        }
        self.many.extend_from_slice(&bytes);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.one.as_ref().map_or(self.many.len(), Bytes::len)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything since the last time.
    pub fn take(&mut self) -> Bytes {
        self.one
            .take()
            .unwrap_or_else(|| self.many.split().freeze())
    }
}

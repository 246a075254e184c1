//! A position taken apart: segment number and byte offset.

use crate::Position;

/// A byte in a segment file. Offset 0 means the first record, wherever the header ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u32,
    pub offset: u32,
}

impl Place {
    pub const START: Self = Self {
        segment: 0,
        offset: 0,
    };
    pub const MAX: Self = Self {
        segment: u32::MAX,
        offset: u32::MAX,
    };

    pub const fn bits(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the two halves")]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            segment: (bits >> 32) as u32,
            offset: bits as u32,
        }
    }

    pub const fn position(self) -> Position {
        Position(self.bits())
    }
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self::from_bits(position.0)
    }
}

//! How a journal is kept.

use std::time::Duration;

use crate::Error;

/// When records become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Each append returns after its own sync: slow, and blocks its thread.
    Always,
    /// One sync for all that wait.
    #[default]
    Group,
    /// Never by itself: the kernel writes when it likes. Survives `kill -9`, not a power cut.
    Os,
}

/// Settings of one journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub sync: Sync,
    /// Bytes of one segment file, preallocated. 64 KiB to 1 GiB; default 16 MiB. A quarter of it is
    /// the limit of one record's body.
    pub segment_bytes: usize,
    /// Bytes of records that may wait for the slowest consumer group. Default 8 GiB.
    pub cap_bytes: u64,
    /// Age from which consumed segments may be deleted by `trim`; `None` (default): never.
    pub retention: Option<Duration>,
    /// Partitions of each topic. Default 64; may grow later, never shrink.
    pub partitions: u16,
    /// While calls come together: the longest that the sync thread lets a group gather before it
    /// syncs, 40 µs a call. A call that is alone never waits, and [`hurry`] ends
    /// the wait. Default 2 ms; see `measure`.
    ///
    /// [`hurry`]: super::Journal::hurry
    pub group_wait: Duration,
    /// A sync that is only hinted at (`sync_soon`) starts after this long, unless another one covers
    /// it before. Default 5 ms.
    pub soon: Duration,
    /// Readers that keep up get at most one batch in this time: batches instead of wake-ups.
    /// Default 5 ms.
    pub linger: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: Sync::Group,
            segment_bytes: 16 << 20,
            cap_bytes: 8 << 30,
            retention: None,
            partitions: 64,
            group_wait: Duration::from_millis(2),
            soon: Duration::from_millis(5),
            linger: Duration::from_millis(5),
        }
    }
}

impl Options {
    /// Bytes above the cap that only finals may use: 64 MiB, or a sixteenth of a smaller cap.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        (self.cap_bytes / 16).min(64 << 20)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |name, problem: String| Err(Error::Option { name, problem });
        if !(64 << 10..=1 << 30).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(4096)
        {
            return refuse(
                "segment_bytes",
                format!(
                    "{} is not a multiple of 4096 from 64 KiB to 1 GiB",
                    self.segment_bytes
                ),
            );
        }
        if self.partitions == 0 {
            return refuse("partitions", "at least one is needed".to_owned());
        }
        Ok(())
    }
}

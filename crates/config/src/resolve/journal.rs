//! The local log: how it is synced, and how large it may be.

use std::ops::RangeInclusive;

use crate::settings::{JournalConfig, SyncMode};
use crate::view::View;

/// The smallest segment holds any record; the largest is what the journal maps at once.
const SEGMENT_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
const PAGE_BYTES: u64 = 4096;

pub(super) fn journal(section: &View<'_>, defaults: JournalConfig) -> JournalConfig {
    let sync = match section
        .at("sync")
        .text()
        .map(|word| word.to_ascii_lowercase())
        .as_deref()
    {
        Some("always") => SyncMode::Always,
        Some("os") => SyncMode::Os,
        _ => defaults.sync,
    };
    let segment = section.at("segment_bytes");
    let segment_bytes = segment.count().unwrap_or(defaults.segment_bytes);
    if !SEGMENT_BYTES.contains(&segment_bytes) || !segment_bytes.is_multiple_of(PAGE_BYTES) {
        segment.error(format!(
            "must be a multiple of {PAGE_BYTES} from {} to {}",
            SEGMENT_BYTES.start(),
            SEGMENT_BYTES.end()
        ));
    }
    let cap = section.at("cap_bytes");
    let cap_bytes = cap.count().unwrap_or(defaults.cap_bytes);
    if cap_bytes < segment_bytes.saturating_mul(2) {
        cap.error(format!(
            "must hold two segments, {} bytes, or more",
            segment_bytes.saturating_mul(2)
        ));
    }
    let wait = section.at("group_wait_us");
    wait.at_most(1_000_000);
    JournalConfig {
        sync,
        segment_bytes,
        cap_bytes,
        retention_days: section
            .at("retention_days")
            .count_u32()
            .unwrap_or(defaults.retention_days),
        group_wait_us: wait.count().unwrap_or(defaults.group_wait_us),
    }
}

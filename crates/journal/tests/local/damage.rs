//! Torn tails are cut, damage is refused.

use journal::{Error, Journal, Sync};
use proptest::prelude::*;

use crate::support::{Image, all, append, bodies, body, open, quick_dir, small};

fn offset(position: journal::Position) -> usize {
    usize::try_from(position.0 & 0xFFFF_FFFF).expect("fits")
}

/// Five durable records, then three that no sync has covered. The image, the bodies, the offsets of
/// the records and of the end.
fn three_unsynced(dir: &std::path::Path) -> (Image, Vec<Vec<u8>>, Vec<usize>) {
    let (journal, _) = open(dir, Sync::Os);
    let mut written = Vec::new();
    let mut offsets = Vec::new();
    for n in 0..8 {
        if n == 5 {
            journal.sync().expect("syncs");
        }
        written.push(body(n, 5 + n * 3));
        offsets.push(offset(append(&journal, &written[n])));
    }
    offsets.push(offset(journal.end_position()));
    (Image::of(dir), written, offsets)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_at_the_last_whole_record() {
    let root = quick_dir();
    let (image, written, offsets) = three_unsynced(&root.path().join("made"));
    let dir = root.path().join("torn");
    for restarted in [false, true] {
        for truncated in [false, true] {
            if truncated && restarted {
                continue;
            }
            for cut in offsets[5]..=offsets[8] {
                let mut image = image.clone();
                if restarted {
                    image.restarted();
                }
                let mut segments = image.segments();
                let last = segments.last_mut().expect("a segment");
                if truncated {
                    last.truncate(cut);
                } else {
                    last[cut..].fill(0);
                }
                image.write(&dir);
                let story = format!("cut at {cut}, truncated {truncated}, restarted {restarted}");
                let (journal, recovery) = Journal::open(&dir, small(Sync::Os)).expect(&story);
                // Padding behind a body may go without harm.
                let whole = (0..8)
                    .filter(|&n| offsets[n] + 20 + written[n].len() <= cut)
                    .count();
                let records = all(&journal).expect(&story);
                assert_eq!(bodies(&records), written[..whole], "{story}");
                let torn = cut > offsets[whole].min(cut) && whole < 8;
                assert_eq!(recovery.cut_bytes > 0, torn, "{story}");
                append(&journal, b"next");
                let records = all(&journal).expect(&story);
                assert_eq!(records[whole].identity.pseq.0, whole as u64 + 1, "{story}");
            }
        }
    }
}

#[test]
fn what_was_synced_and_is_gone_is_not_called_a_torn_tail() {
    let root = quick_dir();
    let (image, _, offsets) = three_unsynced(&root.path().join("made"));
    let dir = root.path().join("torn");
    for restarted in [false, true] {
        for cut in (offsets[0]..offsets[4] + 20).step_by(7) {
            let mut image = image.clone();
            if restarted {
                image.restarted();
            }
            image.segments()[0][cut..].fill(0);
            image.write(&dir);
            let before = Image::of(&dir);
            let error = Journal::open(&dir, small(Sync::Os)).err().expect("refuses");
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("0000000001.seg"), "{error}");
            let mut after = Image::of(&dir);
            after.files.retain(|(name, _)| name.as_os_str() != "lock");
            let mut before = before;
            before.files.retain(|(name, _)| name.as_os_str() != "lock");
            assert!(before.files == after.files, "nothing is changed");
        }
    }
}

/// A power cut writes pages in any order: an early one may be missing while a later one is there.
#[test]
fn a_hole_that_a_power_cut_left_in_unsynced_records_is_cut() {
    let root = quick_dir();
    let made = root.path().join("made");
    let (journal, _) = open(&made, Sync::Os);
    for n in 0..4 {
        append(&journal, &body(n, 900));
    }
    journal.sync().expect("syncs");
    for n in 4..40 {
        append(&journal, &body(n, 900));
    }
    let mut image = Image::of(&made);
    // Sector 16 on the third page; records 4 and later are not synced.
    image.segments()[0][8192..8704].fill(0);
    let dir = root.path().join("cut");
    image.write(&dir);
    let error = Journal::open(&dir, small(Sync::Os)).err().expect("refuses");
    assert!(
        matches!(error, Error::Corrupt { .. }),
        "the machine never stopped: {error}"
    );

    image.restarted();
    image.write(&dir);
    let (journal, recovery) = open(&dir, Sync::Os);
    let records = all(&journal).expect("readable");
    assert!((4..10).contains(&records.len()), "{}", records.len());
    assert!(recovery.cut_bytes > 20_000);

    // Without a missing sector it is damage, whatever the machine did.
    image.segments()[0][8192..8704].fill(0xA5);
    image.write(&dir);
    let error = Journal::open(&dir, small(Sync::Os)).err().expect("refuses");
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn a_missing_segment_is_damage() {
    let root = quick_dir();
    let made = root.path().join("made");
    {
        let (journal, _) = open(&made, Sync::Group);
        for n in 0..400 {
            append(&journal, &body(n, 900));
        }
    }
    let image = Image::of(&made);
    let dir = root.path().join("less");
    let names = image.files.iter().map(|(name, _)| name);
    let segments: Vec<_> = names
        .filter(|n| n.extension().is_some_and(|end| end == "seg"))
        .collect();
    assert!(segments.len() > 4);
    // Of the first one nobody can know whether it was trimmed.
    for name in &segments[1..] {
        image.write(&dir);
        std::fs::remove_file(dir.join(name)).expect("removes");
        let read = Journal::open(&dir, small(Sync::Group)).and_then(|(journal, _)| all(&journal));
        assert!(
            matches!(read, Err(Error::Corrupt { .. })),
            "{} is gone",
            name.display()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    /// One flipped byte anywhere: the log is whole, or it is refused. Never shorter in silence.
    #[test]
    fn a_flipped_byte_is_never_skipped(
        place in any::<prop::sample::Index>(), flip in 1u8.., restarted: bool, running: bool,
    ) {
        let (clean, killed, written) = &*FLIPPED;
        let mut image = if running { killed.clone() } else { clean.clone() };
        if restarted { image.restarted(); }
        let mut segments = image.segments();
        let total: usize = segments.iter().map(|bytes| bytes.len()).sum();
        let mut at = place.index(total);
        for bytes in &mut segments {
            if at < bytes.len() { bytes[at] ^= flip; break; }
            at -= bytes.len();
        }
        let root = quick_dir();
        let dir = root.path().join("flipped");
        image.write(&dir);
        match Journal::open(&dir, small(Sync::Group)).and_then(|(journal, _)| all(&journal)) {
            Ok(records) => prop_assert_eq!(&bodies(&records), written),
            Err(Error::Corrupt { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// A journal of several segments after a clean end, and the same one killed after its last sync.
static FLIPPED: std::sync::LazyLock<(Image, Image, Vec<Vec<u8>>)> =
    std::sync::LazyLock::new(|| {
        let root = quick_dir();
        let (journal, _) = open(root.path(), Sync::Group);
        let written: Vec<_> = (0..300).map(|n| body(n, 300 + n)).collect();
        for body in &written {
            append(&journal, body);
        }
        journal.sync().expect("syncs");
        let killed = Image::of(root.path());
        drop(journal);
        // Opening cuts the preallocated rest, so that flips hit records.
        drop(open(root.path(), Sync::Group));
        (Image::of(root.path()), killed, written)
    });

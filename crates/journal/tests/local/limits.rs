//! Locks, caps, full disks and what else is refused.

use std::process::Command;
use std::time::Duration;

use journal::{Error, Journal, Options, Position, Reader, Start, Sync};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemas::{Partition, Topic};

use crate::support::{all, append, bodies, body, open, small};

#[test]
fn one_directory_has_one_writer() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, first) = open(root.path(), Sync::Group);
    let clone = journal.clone();
    drop(journal);
    let error = Journal::open(root.path(), small(Sync::Group))
        .err()
        .expect("refuses");
    let told = error.to_string();
    assert!(told.contains(&root.path().display().to_string()), "{told}");
    assert!(told.contains(&std::process::id().to_string()), "{told}");
    drop(clone);
    let (_, second) = open(root.path(), Sync::Group);
    assert_eq!(first.source_id, second.source_id, "the id stays");
    let (_, other) = open(&root.path().join("other"), Sync::Group);
    assert_ne!(
        other.source_id, first.source_id,
        "a new directory is a new source"
    );
}

#[test]
fn what_cannot_be_a_record_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(root.path(), Sync::Group);
    let large = journal.append(Topic::Usage, Partition(0), &vec![1; 20_000]);
    assert!(matches!(
        large,
        Err(Error::TooLarge {
            bytes: 20_000,
            limit: 16_384
        })
    ));
    let partition = journal.append(Topic::Usage, Partition(4), b"");
    assert!(matches!(
        partition,
        Err(Error::Partition {
            partition: 4,
            partitions: 4
        })
    ));
    append(&journal, b"");
    assert_eq!(bodies(&all(&journal).expect("readable")), [b""]);
    let tiny = Options {
        segment_bytes: 1000,
        ..Options::default()
    };
    let dir = root.path().join("tiny");
    assert!(matches!(
        Journal::open(&dir, tiny),
        Err(Error::Option {
            name: "segment_bytes",
            ..
        })
    ));
}

/// At the cap new calls are refused, and calls that run can still be billed; consumers free it.
#[tokio::test]
async fn the_cap_refuses_beginnings_before_ends() {
    let root = tempfile::tempdir().expect("a directory");
    let options = Options {
        cap_bytes: 64_000,
        ..small(Sync::Group)
    };
    let (journal, _) = Journal::open(root.path(), options).expect("opens");
    let mut reader = journal
        .local_reader("slow", &[Topic::Usage], &Start::Committed)
        .expect("a reader");
    let usage =
        |class: fn(&Journal, Topic, Partition, &[u8]) -> Result<journal::Appended, Error>| {
            (0..)
                .take_while(|&n| class(&journal, Topic::Usage, Partition(0), &body(n, 980)).is_ok())
                .count()
        };
    assert_eq!(usage(Journal::append), 64);
    assert_eq!(journal.pressure().used_bytes, 64_000);
    assert_eq!(usage(Journal::append_final), 4, "a sixteenth more");
    let refused = journal.append_final(Topic::Usage, Partition(0), &body(0, 980));
    assert!(matches!(
        refused,
        Err(Error::Full {
            cap_bytes: 64_000,
            ..
        })
    ));

    journal.sync().expect("syncs");
    let mut read = 0;
    while read < 68 {
        read += reader
            .next(40, Duration::from_secs(60))
            .await
            .expect("readable")
            .len();
    }
    assert!(
        journal.append(Topic::Usage, Partition(0), b"x").is_err(),
        "read is not done"
    );
    reader.commit().await.expect("commits");
    assert_eq!(journal.pressure().used_bytes, 0);
    append(&journal, b"x");
    assert_eq!(journal.last_of(Topic::Usage, Partition(0)).0, 69);
    drop((journal, reader));
    let (journal, _) = open(root.path(), Sync::Group);
    assert_eq!(
        journal.pressure().used_bytes,
        24,
        "what is committed stays so"
    );
}

/// Consumers change with the configuration, and those of yesterday must not fill the disk.
#[tokio::test]
async fn a_group_that_is_forgotten_holds_nothing_back() {
    let root = tempfile::tempdir().expect("a directory");
    let options = Options {
        cap_bytes: 64_000,
        ..small(Sync::Group)
    };
    let (journal, _) = Journal::open(root.path(), options.clone()).expect("opens");
    let reader = |group: &str| {
        let reader = journal.local_reader(group, &[Topic::Usage], &Start::Committed);
        reader.expect("a reader")
    };
    drop(reader("gone"));
    let mut present = reader("present");
    for n in 0..64 {
        append(&journal, &body(n, 980));
    }
    journal.sync().expect("syncs");
    assert_eq!(present.read(100).expect("readable").len(), 64);
    present.commit().await.expect("commits");
    assert_eq!(journal.pressure().used_bytes, 64_000);
    drop((present, journal));
    let (journal, _) = Journal::open(root.path(), options).expect("opens");
    journal.forget("gone").expect("forgets");
    assert_eq!(journal.pressure().used_bytes, 0);
    journal.forget("gone").expect("nothing is left to forget");
    let again = journal.local_reader("gone", &[Topic::Usage], &Start::Committed);
    let again = again.expect("a reader").read(100).expect("readable");
    assert_eq!(again.len(), 64, "as a new one");
}

#[test]
fn trim_deletes_only_what_everybody_is_done_with() {
    let root = tempfile::tempdir().expect("a directory");
    let options = Options {
        retention: Some(Duration::ZERO),
        ..small(Sync::Group)
    };
    let (journal, _) = Journal::open(root.path(), options).expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("builds");
    let topics = [Topic::Usage];
    let mut fast = journal
        .local_reader("fast", &topics, &Start::Committed)
        .expect("a reader");
    let mut slow = journal
        .local_reader("slow", &topics, &Start::Committed)
        .expect("a reader");
    // A number may be left out where the next segment was not ready in time.
    let mut numbers: Vec<_> = (0..400)
        .map(|n| append(&journal, &body(n, 980)).0 >> 32)
        .collect();
    numbers.dedup();
    journal.sync().expect("syncs");
    assert!(numbers.len() >= 7);
    fast.read(400).expect("readable");
    runtime.block_on(fast.commit()).expect("commits");
    slow.read(200).expect("readable");
    runtime.block_on(slow.commit()).expect("commits");
    assert_eq!(journal.trim().expect("trims"), 0, "no low-water mark yet");
    journal
        .mark_low_water(Position(numbers[1] << 32))
        .expect("marks");
    assert_eq!(
        journal.trim().expect("trims"),
        1,
        "calls in segment 2 are open"
    );
    journal
        .mark_low_water(journal.end_position())
        .expect("marks");
    let middle = slow.read(1).expect("readable")[0].position;
    assert_eq!(
        journal.trim().expect("trims") as u64,
        numbers.iter().filter(|&&n| n < middle.0 >> 32).count() as u64 - 1,
        "the slow group is there"
    );
    assert_eq!(
        slow.read(400).expect("readable").len(),
        199,
        "nothing it needs is gone"
    );
    runtime.block_on(slow.commit()).expect("commits");
    journal.trim().expect("trims");
    append(&journal, b"more");
    journal.sync().expect("syncs");
    assert_eq!(bodies(&slow.read(10).expect("readable")), [b"more"]);
    drop((fast, slow, journal));

    // All that is left is the active segment; numbers go on where they were.
    let (journal, recovery) = open(root.path(), Sync::Group);
    assert_eq!(recovery.last[&(Topic::Usage, Partition(0))].0, 401);
    let mut again = journal
        .local_reader("fast", &topics, &Start::Committed)
        .expect("a reader");
    assert_eq!(bodies(&again.read(10).expect("readable")), [b"more"]);
    let behind = vec![journal::Mark {
        topic: Topic::Usage,
        identity: again_identity(&journal, 10),
    }];
    let mut gap = journal
        .local_reader("", &topics, &Start::After(behind.into()))
        .expect("a reader");
    assert!(
        gap.read(1).expect("readable")[0].identity.pseq.0 > 11,
        "the consumer sees the gap"
    );
}

fn again_identity(journal: &Journal, pseq: u64) -> schemas::Identity {
    schemas::Identity {
        source_id: journal.source_id(),
        partition: Partition(0),
        pseq: schemas::Pseq(pseq),
    }
}

const DIR: &str = "JOURNAL_TEST_FULL_DISK_DIR";

/// Not a story by itself: `a_full_disk_refuses_and_heals` starts it as a process of its own, since
/// the limit on file sizes is the process's.
#[test]
fn child_with_a_full_disk() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = std::path::Path::new(&dir);
    let (journal, _) = Journal::open(dir, small(Sync::Os)).expect("opens");
    append(&journal, b"first");
    // No new file may get as large as a segment: for the journal, a full disk.
    let whole = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(32 << 10),
            ..whole
        },
    )
    .expect("limits");
    let fill =
        |class: fn(&Journal, Topic, Partition, &[u8]) -> Result<journal::Appended, Error>| {
            for n in 0.. {
                // The sync thread notices at half; ordinary records stop at three quarters.
                if n > 40 {
                    while !short(&journal) {
                        std::thread::yield_now();
                    }
                }
                match class(&journal, Topic::Usage, Partition(0), &body(n, 780)) {
                    Ok(_) => {}
                    Err(Error::DiskFull { path, .. }) => {
                        assert!(path.starts_with(dir));
                        return n;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            0
        };
    let (ordinary, finals) = (fill(Journal::append), fill(Journal::append_final));
    assert!((58..=61).contains(&ordinary), "{ordinary}");
    assert!((19..=21).contains(&finals), "{finals}");
    setrlimit(Resource::Fsize, whole).expect("unlimits");
    append(&journal, b"heals");
    let records = all(&journal).expect("readable");
    assert_eq!(records.len(), ordinary + finals + 2, "nothing was lost");
    drop(journal);
    let (journal, _) = open(dir, Sync::Os);
    assert_eq!(all(&journal).expect("readable"), records);
}

/// Whether the next segment was tried in vain: no file of that number is left behind.
fn short(journal: &Journal) -> bool {
    journal.stats().short
}

#[test]
fn a_full_disk_refuses_and_heals() {
    let root = tempfile::tempdir().expect("a directory");
    // The kernel answers a file that is too large with a signal, too; ignored, it survives `exec`.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["limits::child_with_a_full_disk", "--exact", "--nocapture"])
        .env(DIR, root.path())
        .output()
        .expect("starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_writer_keeps_little_of_its_segments_in_memory() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(root.path(), Options::default()).expect("opens");
    for n in 0..14_000 {
        append(&journal, &body(n, 980));
        if n % 500 == 0 {
            journal.sync().expect("syncs");
        }
    }
    journal.sync().expect("syncs");
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
    let name = root.path().display().to_string();
    let mut ours = false;
    let mut resident_kb = 0;
    for line in maps.lines() {
        if line.contains(" /") || line.ends_with("00:00 0 ") {
            ours = line.contains(&name);
        } else if ours && let Some(kb) = line.strip_prefix("Rss:") {
            resident_kb += kb
                .trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .expect("a number");
        }
    }
    assert!(
        resident_kb < 400,
        "{resident_kb} kB of a journal of 14 MB are resident"
    );
}

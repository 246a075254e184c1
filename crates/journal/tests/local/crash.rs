//! A real process is killed with `kill -9` while it appends.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use journal::{Error, Journal, LocalReader, Reader, Start, Sync};
use schemas::{Partition, Topic};

use crate::support::{all, open, small};

const DIR: &str = "JOURNAL_TEST_CHILD_DIR";

/// Not a story: the other process, when started with a directory. Appends for ever, and says each
/// position once it was promised.
#[test]
fn child_that_appends() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (journal, _) = Journal::open(Path::new(&dir), small(Sync::Group)).expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("builds");
    runtime.block_on(async {
        for n in 0u64.. {
            let body = n
                .to_le_bytes()
                .repeat(1 + usize::try_from(n % 90).expect("small"));
            let appended = journal
                .append(Topic::Usage, Partition(0), &body)
                .expect("takes it");
            // Every third one is only in the page cache, which is enough for `kill -9`.
            if n % 3 != 0 {
                journal.durable(appended.position).await.expect("durable");
            }
            // One write: killed in the middle of a number, it would tell another one.
            let line = format!("acknowledged {n}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("tells");
        }
    });
}

fn start_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "crash::child_that_appends",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path();
    let mut next = 0u64;
    for round in 1..=8u64 {
        let mut child = start_child(dir);
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut acknowledged = 0;
        let mut told = || {
            let line = lines.next()?.ok()?;
            line.strip_prefix("acknowledged ")
                .map(|n| n.parse::<u64>().expect("a number"))
        };
        while acknowledged < 150 * round {
            acknowledged = told().expect("the child goes on");
        }
        // Meanwhile this process reads what the other one writes, without its lock.
        let mut outside = LocalReader::open(dir, "outside", &[Topic::Usage], &Start::Committed)
            .expect("a reader");
        let batch = outside
            .next(100, Duration::from_secs(60))
            .await
            .expect("readable");
        assert_eq!(
            batch[0].identity.pseq.0,
            next + 1,
            "each record once, in order"
        );
        next += batch.len() as u64;
        outside.commit().await.expect("commits");
        let locked = Journal::open(dir, small(Sync::Group))
            .err()
            .expect("is locked");
        assert!(
            matches!(&locked, Error::Locked { pid, .. } if *pid == child.id().to_string()),
            "{locked}"
        );

        child.kill().expect("kills");
        child.wait().expect("ends");
        // What it still said before it died counts.
        while let Some(n) = told() {
            acknowledged = n;
        }
        let (journal, recovery) = open(dir, Sync::Group);
        let records = all(&journal).expect("readable");
        let last = recovery.last[&(Topic::Usage, Partition(0))].0;
        assert_eq!(records.len() as u64, last);
        let of_this_life = records
            .iter()
            .rev()
            .find(|r| r.body[..8] == acknowledged.to_le_bytes());
        let found = of_this_life.expect("the last acknowledged record is there");
        assert!(
            last - found.identity.pseq.0 <= 1,
            "at most one was appended and not told"
        );
        for (n, record) in (1..).zip(&records) {
            assert_eq!(record.identity.pseq.0, n);
        }
        drop(journal);
        // Each life counts from 0 again: stay ahead of what was read.
        assert!(next <= last);
    }
}

//! The local backend keeps every promise of the seam, in each sync mode and with tiny segments.

use journal::{Journal, Options, Sync, conformance::conformance};

async fn passes(sync: Sync, segment_bytes: usize) {
    let root = tempfile::tempdir().expect("a directory");
    let count = std::cell::Cell::new(0);
    conformance(async || {
        count.set(count.get() + 1);
        let dir = root.path().join(count.get().to_string());
        let options = Options {
            sync,
            segment_bytes,
            ..Options::default()
        };
        Journal::open(&dir, options).expect("opens").0
    })
    .await;
}

#[tokio::test]
async fn group_sync() {
    passes(Sync::Group, 16 << 20).await;
}

#[tokio::test]
async fn group_sync_with_small_segments() {
    passes(Sync::Group, 128 << 10).await;
}

#[tokio::test]
async fn always_sync() {
    passes(Sync::Always, 256 << 10).await;
}

#[tokio::test]
async fn no_sync() {
    passes(Sync::Os, 1 << 20).await;
}

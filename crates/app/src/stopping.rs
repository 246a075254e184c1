//! How a process ends: asked once it drains, asked twice it ends now. While it starts there is nothing to drain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

struct Signals {
    term: Signal,
    interrupt: Signal,
}

/// The role waits for its end itself.
static STARTED: AtomicBool = AtomicBool::new(false);

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends the process in order if it is asked to before it has started: no call was taken yet, and whatever else
/// was begun is made to be cut off anywhere.
pub fn mind_the_start() -> Result<()> {
    let mut signals = Signals::new()?;
    // Ends with the process.
    drop(tokio::spawn(async move {
        signals.next().await;
        if !STARTED.load(Ordering::SeqCst) {
            tracing::info!("asked to stop while starting: ending now");
            std::process::exit(0);
        }
    }));
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C. A second one, from then on, ends the process at once: everything that was
/// acknowledged is in the journal, and the next start goes on from there.
pub async fn asked_to_stop() -> Result<()> {
    let mut signals = Signals::new()?;
    // From here on they are heard here.
    STARTED.store(true, Ordering::SeqCst);
    signals.next().await;
    tracing::info!("stopping: no new calls, those in progress go on");
    // Ends with the process, one way or the other.
    drop(tokio::spawn(async move {
        signals.next().await;
        tracing::warn!("asked to stop again: ending now");
        std::process::exit(0);
    }));
    Ok(())
}

/// Waits while readiness says no and calls are still taken, so that a load balancer can look away first.
pub async fn lame_duck(length: Duration) {
    if !length.is_zero() {
        tracing::info!("not ready from now on; calls are taken for {length:?} more");
        tokio::time::sleep(length).await;
    }
}

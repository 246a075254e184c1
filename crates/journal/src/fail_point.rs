//! Named steps at which a test can make the process end itself: `TOLLGATE_FAIL=after_admit`, or
//! `TOLLGATE_FAIL=after_admit:3` for the third time. Compiled in always; without the variable a step is one
//! load.
//!
//! The names are those of whoever passes them; several crates of one process may have steps, of which the
//! variable names one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Armed {
    step: String,
    passes_left: AtomicU32,
}

static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
    let text = std::env::var("TOLLGATE_FAIL").ok()?;
    let (step, times) = text.split_once(':').unwrap_or((&text, "1"));
    Some(Armed {
        step: step.to_owned(),
        passes_left: AtomicU32::new(times.parse().ok()?),
    })
});

/// Passes a step, or ends the process as `kill -9` would: no destructor runs.
pub fn pass(step: &str) {
    if let Some(armed) = &*ARMED
        && armed.step == step
        && armed.passes_left.fetch_sub(1, Ordering::Relaxed) <= 1
    {
        std::process::abort();
    }
}

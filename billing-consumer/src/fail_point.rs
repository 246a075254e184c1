//! Named steps at which a test can make the process end itself: `TOLLGATE_FAIL=after_settle`, or
//! `TOLLGATE_FAIL=after_settle:3` for the third time. Compiled in always; without the variable a step is
//! one relaxed load.
//!
//! What a crash after each step costs:
//!
//! | step | done | a restart |
//! | --- | --- | --- |
//! | `before_settle` | dead letters of the batch are durable | reads the batch again; known dead letters are not written twice |
//! | `after_settle` | budget state has the batch | memory: state is rebuilt from the tables and the log; Redis: its marks drop the batch |
//! | `after_budget_commit` | position stored | reads on |
//! | `before_insert` | dead letters of the batch are durable | reads the batch again |
//! | `after_insert_before_commit` | rows and marks are in the tables, synced | the tables' marks drop the batch; what was in without marks is inserted again, which changes no sum |
//! | `after_store_commit` | position stored | reads on |

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A step that every usage event passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    BeforeSettle = 1,
    AfterSettle = 2,
    AfterBudgetCommit = 3,
    BeforeInsert = 4,
    AfterInsertBeforeCommit = 5,
    AfterStoreCommit = 6,
}

impl Step {
    pub const ALL: [Self; 6] = [
        Self::BeforeSettle,
        Self::AfterSettle,
        Self::AfterBudgetCommit,
        Self::BeforeInsert,
        Self::AfterInsertBeforeCommit,
        Self::AfterStoreCommit,
    ];

    /// The word in the environment.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeSettle => "before_settle",
            Self::AfterSettle => "after_settle",
            Self::AfterBudgetCommit => "after_budget_commit",
            Self::BeforeInsert => "before_insert",
            Self::AfterInsertBeforeCommit => "after_insert_before_commit",
            Self::AfterStoreCommit => "after_store_commit",
        }
    }
}

/// 0: none.
static ARMED: AtomicU8 = AtomicU8::new(0);
static PASSES_LEFT: AtomicU32 = AtomicU32::new(1);
static READ: OnceLock<()> = OnceLock::new();

/// Reads the environment, once. Names of other crates' steps are theirs.
pub(crate) fn arm() {
    READ.get_or_init(|| {
        let Ok(text) = std::env::var("TOLLGATE_FAIL") else {
            return;
        };
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        let step = Step::ALL.into_iter().find(|step| step.name() == name);
        if let (Some(step), Ok(times)) = (step, times.parse()) {
            PASSES_LEFT.store(times, Ordering::Relaxed);
            ARMED.store(step as u8, Ordering::Relaxed);
        }
    });
}

/// Passes a step, or ends the process as `kill -9` would: no destructor runs.
pub(crate) fn pass(step: Step) {
    if ARMED.load(Ordering::Relaxed) == step as u8
        && PASSES_LEFT.fetch_sub(1, Ordering::Relaxed) <= 1
    {
        std::process::abort();
    }
}

//! What can go wrong with budget state, apart from a refusal (which is an answer, see [`crate::Refusal`]).

use schemas::{Standing, Text};

/// Errors of the budget state.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The batch begins elsewhere than where the last one ended: another consumer was here, or the state
    /// was rolled back. Nothing was changed.
    #[error("the batch does not follow on what was settled: {} marks stand", standing.marks.len())]
    Fence {
        /// What is settled.
        standing: Standing,
    },
    /// A batch without marks could be applied twice.
    #[error("a settlement without high-water marks is refused: a replay of it would count twice")]
    Unfenced,
    /// A counter would pass 9.2 billion USD. Nothing was changed.
    #[error("the counter of budget {budget} would pass its range")]
    Overflow { budget: Text },
    /// The state is gone, or another process restores it: see [`crate::Budgets::begin`].
    #[error("the budget state is gone and has to be restored")]
    Lost,
    /// One step would keep everybody waiting. Cut the batch.
    #[error("a settlement of {entries} windows and holds is refused: at most {most} at once")]
    TooLarge { entries: usize, most: usize },
    /// The backend cannot serve as budget state, whatever is retried.
    #[error("{0}")]
    Unusable(String),
    /// The backend is out of reach; asking again is safe.
    #[error("budget state is unavailable: {0}")]
    Unavailable(String),
}

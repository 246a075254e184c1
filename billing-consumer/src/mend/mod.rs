//! What an operator can do about events that the lanes cannot: those that are missing, and those that nobody
//! could bill. Each step is itself a record of the log, so that a rebuild from the log comes to the same books;
//! done twice, it counts once. Never touches an event that is where it belongs.

mod gaps;
mod retry;

pub use gaps::{ACCEPTED_BY, Hole, MOST, accept, holes};
pub use retry::{Outcome, Parts, Retried, Way, again, retry};

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] journal::Error),
    #[error(transparent)]
    Tables(#[from] analytics::Error),
    #[error(transparent)]
    Budgets(#[from] budgets::Error),
    /// What was named is not missing.
    #[error("{0}")]
    NotMissing(String),
}

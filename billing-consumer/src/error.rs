//! What can go wrong with the lanes from outside. What goes wrong inside is retried for ever and shown
//! in [`crate::Status`].

use std::time::Duration;

/// Errors of the billing consumer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is lost: the rest is read at the next start.
    #[error("the {lane} lane has not brought everything to its sink within {within:?}")]
    Undrained {
        lane: &'static str,
        within: Duration,
    },
    /// A defect; the log has the panic.
    #[error("the {lane} lane had stopped before")]
    Stopped { lane: &'static str },
}

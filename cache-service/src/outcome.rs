//! What comes out of a look-up, and out of storing an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::eligibility::Reason;
use crate::entries::{Answer, EntryId};
use crate::flight::{End, Leader};
use crate::request::Prepared;

/// What became of a look-up.
#[derive(Debug)]
pub enum Outcome {
    /// Here is the answer.
    Hit(Hit),
    /// Ask the provider, and store the answer with the ticket.
    Miss(Ticket, Reason),
    /// Ask the provider; nothing will be stored.
    Bypass(Reason),
    /// The same request is under way: [`CacheService::wait`].
    Wait(Follower),
}

/// What a miss remembers, so that storing need not work it out again. Dropping it lets an identical
/// request that waits go ahead.
pub struct Ticket {
    pub(crate) asked: Prepared,
    pub(crate) leader: Option<Leader>,
}

/// A request that waits for an identical one.
pub struct Follower {
    pub(crate) asked: Prepared,
    pub(crate) state: watch::Receiver<Option<End>>,
    pub(crate) deadline: Instant,
}

/// Which tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitKind {
    /// The same request.
    Exact,
    /// The same question in other words.
    Semantic,
}

impl HitKind {
    /// The word in headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Semantic => "semantic",
        }
    }
}

/// A stored answer that may be served.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Which tier answered.
    pub kind: HitKind,
    /// Cosine of the two questions; 1 for an exact hit.
    pub similarity: f32,
    /// Names the entry, for deleting it.
    pub entry: EntryId,
    /// The answer.
    pub answer: Arc<Answer>,
    /// How long it has been stored.
    pub age: Duration,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Kept under this id.
    Kept(EntryId),
    /// Not kept, and why.
    Not(NotStored),
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The client asked for that (`no-store`, a life of zero).
    Unwanted,
    /// Not a complete answer that ended by itself.
    Incomplete,
    /// Calls tools.
    ToolCall,
    /// Has no text.
    Empty,
    /// Larger than a sixteenth of the cache.
    TooLarge,
    /// The store that answers are shared in does not answer.
    StoreDown,
}

impl NotStored {
    /// The word in logs and in the api.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unwanted => "unwanted",
            Self::Incomplete => "incomplete",
            Self::ToolCall => "tool-call",
            Self::Empty => "empty",
            Self::TooLarge => "too-large",
            Self::StoreDown => "store-down",
        }
    }
}

/// Whether the cache does all that it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Answers by meaning are given.
    pub semantic: bool,
    /// Entries survive a restart.
    pub persistent: bool,
    /// What can be said of the store that answers are shared in; `None` without one.
    pub shared: Option<SharedState>,
    /// Asked for more than works.
    pub degraded: bool,
    /// What was not as it should be.
    pub warnings: Vec<String>,
}

/// The store that answers are shared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedState {
    /// It answers.
    pub up: bool,
    /// All that it holds can be found here.
    pub warm: bool,
}

impl Hit {
    /// The value of the response header `x-tollgate-cache`.
    #[must_use]
    pub fn header(&self) -> String {
        format!(
            "hit; kind={}; similarity={:.4}",
            self.kind.as_str(),
            self.similarity
        )
    }
}

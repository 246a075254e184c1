//! The streams of the log, and what each is called outside.

/// A stream of events. The discriminant is stored in the journal: a number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Topic {
    /// Admitted calls (ADMIT), written before dispatch.
    Requests = 1,
    /// Marks of streams in progress; stay in the journal and are never relayed.
    Progress = 2,
    /// What each attempt used; one final record per admitted call.
    Usage = 3,
    /// Changes of keys, teams, users, budgets, models and settings.
    Config = 4,
    /// Changes of prices; never compacted.
    Catalog = 5,
    /// Rated costs and corrections.
    Cost = 6,
    /// Heartbeats and accepted gaps.
    Audit = 7,
    /// Events that could not be processed, with their original bytes.
    Dlq = 8,
}

impl Topic {
    pub const ALL: [Self; 8] = [
        Self::Requests,
        Self::Progress,
        Self::Usage,
        Self::Config,
        Self::Catalog,
        Self::Cost,
        Self::Audit,
        Self::Dlq,
    ];

    /// The topic of a stored discriminant.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| *topic as u8 == number)
    }

    /// The name on a broker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "tollgate.requests.v1",
            Self::Progress => "tollgate.progress.v1",
            Self::Usage => "tollgate.usage.v1",
            Self::Config => "tollgate.config.v1",
            Self::Catalog => "tollgate.catalog.v1",
            Self::Cost => "tollgate.cost.v1",
            Self::Audit => "tollgate.audit.v1",
            Self::Dlq => "tollgate.dlq.v1",
        }
    }
}

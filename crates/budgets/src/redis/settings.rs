//! What a Redis needs to be told.

use std::fmt;
use std::time::Duration;

use schemas::Identity;

/// Whose clock decides windows, minutes and the end of holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The server's, so that all processes agree.
    #[default]
    Server,
    /// The instants that callers give, for tests that move time. Leases are the server's all the same.
    Caller,
}

/// How to reach budget state in Redis, and how long to wait for it.
#[derive(Clone)]
pub struct Settings {
    /// `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS. Never shown.
    pub url: String,
    /// Certificates in PEM that are trusted to sign the server's; none: those of the system.
    pub ca: Option<String>,
    /// The hash tag of all keys: worlds with different prefixes share one server.
    pub prefix: String,
    /// What this process is called, the same after its restart and never shared: the id of its journal.
    /// Empty for a process that is of no account to others.
    pub name: String,
    /// The last usage event of each partition that former lives of this process wrote, the ends of their open
    /// calls included. Once these are settled, what such a life still holds was never admitted, and is given
    /// back. None where that is not known: it is held until its time is over.
    pub former: Option<Vec<Identity>>,
    /// Longest wait of a call for the server, a connection that broke made anew included. Then hard budgets
    /// refuse, and other calls go by local bounds.
    pub wait: Duration,
    /// A process that was not heard of for this long is dead: state opens without knowing its calls.
    pub lease: Duration,
    /// State that was lost opens no sooner than this, so that every live process has noticed.
    pub pause: Duration,
    pub clock: Clock,
}

impl Settings {
    /// The usual waits.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            name: String::new(),
            former: None,
            ca: None,
            wait: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            pause: Duration::from_secs(1),
            clock: Clock::Server,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &"[redacted]")
            .field("ca", &self.ca.is_some())
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("former", &self.former)
            .field("wait", &self.wait)
            .field("lease", &self.lease)
            .field("pause", &self.pause)
            .field("clock", &self.clock)
            .finish()
    }
}

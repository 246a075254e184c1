//! What can be made from a topic, and made again from a copy of it.

use journal::Record;
use schemas::Topic;

/// Gives the bodies that make the state again, each with its version, in ascending order of versions.
pub type Frozen = Box<dyn FnOnce(&mut dyn FnMut(u64, &[u8])) + Send>;

/// State that is a function of a topic of one partition.
pub trait Projection: Send + Sync + 'static {
    const TOPIC: Topic;
    /// What it is called in messages, metrics and file names: `config`.
    const NAME: &'static str;
    /// Raised when a version of the program reads more out of the same records than the last one did, so
    /// that a copy made by the last one is too little.
    const READS: u16;

    /// Puts one record into force.
    ///
    /// # Errors
    /// In words, when the record cannot be read: nothing changes then.
    fn apply(&self, version: u64, body: &[u8]) -> Result<(), String>;

    /// Back to nothing: the log is another one than it was.
    fn clear(&self);

    /// The present state, quickly; writing it out may then take long, elsewhere.
    fn freeze(&self) -> Frozen;

    /// Of a record.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn apply_record(&self, record: &Record) -> Result<(), String> {
        self.apply(record.version, &record.body)
    }
}

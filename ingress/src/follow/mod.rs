//! A projection in memory that follows its topic: what every process knows of keys and of prices.
//!
//! ```text
//! snapshot ─► state of version N ─► records after N, as they come ─► state of now ─► snapshot
//! ```
//! Never writes to the log. Never goes back behind a version that it has shown, and never forgets what it
//! knows because the log is out of reach: it then says how old its knowledge is.

mod projection;
mod run;
pub mod snapshot;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use journal::EventLog;
use tokio::sync::watch::Sender;
use tokio::task::JoinHandle;

pub use projection::{Frozen, Projection};
pub use watch::{State, Watch};

/// Where a follower keeps its copy, and of what.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub path: PathBuf,
    /// Names the log: a copy that was made of another is not used.
    pub origin: String,
}

/// One projection that is kept up to date. Dropped, it stays as it is.
pub struct Follow<P> {
    projection: Arc<P>,
    state: Arc<Sender<State>>,
    keeper: Option<Arc<snapshot::Keeper>>,
    tasks: Vec<Task>,
}

/// Ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<P: Projection> Follow<P> {
    /// Takes the snapshot, if there is a good one, and follows the log from there, on the present runtime.
    /// Returns at once: [`Watch::caught_up`] tells when all is known.
    #[must_use]
    pub fn start(log: Arc<dyn EventLog>, projection: P, kept: Option<Snapshot>) -> Self {
        let projection = Arc::new(projection);
        let mut place = run::Place::default();
        let mut state = State::default();
        let keeper = kept.map(|kept| {
            if let Some((found, as_of)) = run::restore(&kept, &*projection) {
                state.version = found.version;
                state.grounded = true;
                state.as_of = Some(as_of);
                place = found;
            }
            Arc::new(snapshot::Keeper::new(kept, place.version))
        });
        let state = Arc::new(Sender::new(state));
        let follower = run::Follower {
            log: log.clone(),
            projection: projection.clone(),
            state: state.clone(),
            keeper: keeper.clone(),
            place,
        };
        let probe = run::probe::<P>(log, state.clone());
        Self {
            projection,
            keeper,
            tasks: vec![
                Task(tokio::spawn(follower.run())),
                Task(tokio::spawn(probe)),
            ],
            state,
        }
    }

    #[must_use]
    pub fn projection(&self) -> &Arc<P> {
        &self.projection
    }

    /// A handle that tells how far it is.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.state.subscribe())
    }

    /// Stops following, and leaves a snapshot of what is known.
    pub async fn stop(mut self) {
        for mut task in self.tasks.drain(..) {
            task.0.abort();
            // Cancelled, as asked.
            let _ = (&mut task.0).await;
        }
        if let Some(keeper) = &self.keeper {
            keeper.last(&*self.projection, &self.state).await;
        }
    }
}

//! Single flight: of identical requests at the same time one goes upstream, the others wait for it.
//!
//! Knows only hashes. A leader that goes away without a word makes one follower the next leader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::key::Hash;

/// How a leader's call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer can be found in the cache.
    Answered,
    /// There is an answer, which must not be shared.
    Unstorable,
}

/// A leader that takes longer may have been forgotten by its gateway; newcomers do not wait for it.
const LIFE: Duration = Duration::from_secs(10);

type State = watch::Receiver<Option<End>>;

/// The calls under way.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Hash, Flight>>);

struct Flight {
    state: State,
    since: Instant,
}

/// What a request is to do.
pub(crate) enum Role {
    Leader(Leader),
    Follower(State),
}

/// The right, and the duty, to make the call; ends the flight when dropped.
pub(crate) struct Leader {
    flights: Arc<Flights>,
    exact: Hash,
    end: watch::Sender<Option<End>>,
}

impl Flights {
    /// Follows the flight that is under way; one older than [`LIFE`] is not waited for any more, and
    /// this request leads the next.
    pub(crate) fn join(self: &Arc<Self>, exact: Hash) -> Role {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&exact)
            && flight.since.elapsed() < LIFE
        {
            return Role::Follower(flight.state.clone());
        }
        let (end, state) = watch::channel(None);
        let since = Instant::now();
        flights.insert(exact, Flight { state, since });
        Role::Leader(Leader {
            flights: Arc::clone(self),
            exact,
            end,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Leader {
    pub(crate) fn end(self, end: End) {
        // Nobody may be waiting.
        let _ = self.end.send(Some(end));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // Before the channel closes, so that whoever is woken can lead.
        let mut flights = self.flights.0.lock();
        let own = self.end.subscribe();
        if flights
            .get(&self.exact)
            .is_some_and(|flight| flight.state.same_channel(&own))
        {
            flights.remove(&self.exact);
        }
    }
}

/// Waits for the end of a flight; `None` when its leader gave up.
pub(crate) async fn ended(state: &mut State) -> Option<End> {
    state
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|end| *end)
}

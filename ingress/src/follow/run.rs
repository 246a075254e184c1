//! The loop of a follower: read, put into force, tell; and the probe that knows how far the log goes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use journal::{Error, EventLog, Mark, Record, Resume, Start};
use schemas::{Identity, Micros, Offset, Partition};
use tokio::sync::watch::Sender;

use super::snapshot::{self, Keeper};
use super::{Projection, Snapshot, State};
use crate::clock;

/// Topics that are followed have one partition: their records are one order.
const ONLY: Partition = Partition(0);
/// Records taken at once.
const BATCH: usize = 1024;
/// How long a reader waits for the next record before it is asked again.
const WAIT: Duration = Duration::from_secs(1);
/// So many empty answers in a row are the end, whatever the log says of it.
const EMPTY: u32 = 3;
/// How often the log is asked how far it goes, and how long that may take.
const PROBE: Duration = Duration::from_secs(2);
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// Pause after a failure: first, and at most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Everything up to here is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub version: u64,
    pub last: Option<Identity>,
}

impl Place {
    fn start(&self, topic: schemas::Topic) -> Start {
        if self.version == 0 {
            return Start::Beginning;
        }
        let mark = |identity| Mark { topic, identity };
        Start::After(Resume {
            marks: self.last.into_iter().map(mark).collect(),
            next: vec![(topic, ONLY, Offset(self.version))],
        })
    }
}

/// The state of a good snapshot, put into force. Also tells when it was last known to be up to date.
pub(super) fn restore<P: Projection>(kept: &Snapshot, projection: &P) -> Option<(Place, Micros)> {
    let read = snapshot::read(kept, P::READS, |version, body| {
        projection
            .apply(version, body)
            .map_err(|why| format!("version {version}: {why}"))
    });
    match read {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(
                "the {} snapshot is not used: {error}. Everything is read from the log",
                P::NAME
            );
            projection.clear();
            None
        }
    }
}

/// One follower, owned by its task.
pub(super) struct Follower<P> {
    pub log: Arc<dyn EventLog>,
    pub projection: Arc<P>,
    pub state: Arc<Sender<State>>,
    pub keeper: Option<Arc<Keeper>>,
    pub place: Place,
}

impl<P: Projection> Follower<P> {
    pub async fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            let before = self.place.version;
            let Err(error) = self.follow().await;
            if before != self.place.version {
                pause = PAUSE;
            }
            self.state.send_if_modified(|state| {
                let problem = Some(error.to_string());
                let new = state.problem.is_none();
                if new {
                    tracing::warn!(
                        "the {} log cannot be read: {error}. What is known goes on being used",
                        P::NAME
                    );
                }
                state.problem = problem;
                new
            });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Reads on with one reader until it fails.
    async fn follow(&mut self) -> Result<Infallible, Error> {
        let newest = self.log.newest(P::TOPIC, ONLY).await?;
        if newest.is_some_and(|newest| newest < self.place.version) {
            self.begin_again(newest.unwrap_or_default());
        }
        // Who has everything need not wait for a reader of what comes.
        self.heard(newest);
        let start = self.place.start(P::TOPIC);
        let mut reader = self.log.reader("", &[P::TOPIC], start).await?;
        let mut empty = 0;
        loop {
            let asked = self.state.borrow().newest;
            let records = match reader.next(BATCH, WAIT).await {
                Err(Error::Reassigned { .. }) => {
                    reader.seek(&self.place.start(P::TOPIC)).await?;
                    continue;
                }
                records => records?,
            };
            if records.is_empty() && newest.is_none() {
                // A log that cannot tell its end is at it when nothing more comes.
                self.heard(Some(self.place.version));
            }
            empty = if records.is_empty() { empty + 1 } else { 0 };
            if empty >= EMPTY && self.state.borrow().problem.is_none() {
                self.state.send_modify(|state| {
                    state.empty_up_to = asked;
                    settle(state);
                });
            }
            self.apply(&records);
            if let Some(keeper) = &self.keeper {
                keeper.keep(&*self.projection, &self.place, &self.state);
            }
        }
    }

    fn apply(&mut self, records: &[Record]) {
        let mut stepped_over = 0;
        for record in records {
            if record.version <= self.place.version {
                continue;
            }
            // One that cannot be read must not lock everybody out: told, and stepped over here only.
            if let Err(why) = self.projection.apply_record(record) {
                stepped_over += 1;
                tracing::error!(event = %record.identity, "{} event without effect: {why}", P::NAME);
            }
            self.place = Place {
                version: record.version,
                last: Some(record.identity),
            };
        }
        if !records.is_empty() {
            let version = self.place.version;
            self.state.send_modify(|state| {
                state.version = version;
                state.stepped_over += stepped_over;
                state.problem = None;
                settle(state);
            });
        }
    }

    fn heard(&self, newest: Option<u64>) {
        self.state.send_modify(|state| {
            state.problem = None;
            if let Some(newest) = newest {
                state.newest = newest;
                state.heard = true;
            }
            settle(state);
        });
    }

    /// The log holds less than what is known: it is another log, or it has lost its end.
    fn begin_again(&mut self, newest: u64) {
        tracing::error!(
            "the {} log ends at version {newest}, and version {} was known: it was replaced, or has lost \
             events. What it holds now is taken, from its start",
            P::NAME,
            self.place.version
        );
        self.projection.clear();
        self.place = Place::default();
        self.state.send_modify(|state| {
            state.version = 0;
            state.caught_up = false;
            state.grounded = false;
        });
    }
}

/// What follows from the numbers.
fn settle(state: &mut State) {
    if state.heard && state.version.max(state.empty_up_to) >= state.newest {
        state.caught_up = true;
        state.grounded = true;
        state.as_of = Some(clock::now());
    }
}

/// Asks the log every second how far it goes: so it is known how old the knowledge is when nothing comes.
pub(super) async fn probe<P: Projection>(log: Arc<dyn EventLog>, state: Arc<Sender<State>>) {
    let mut ticks = tokio::time::interval(PROBE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let told = tokio::time::timeout(PROBE_WITHIN, log.newest(P::TOPIC, ONLY)).await;
        let problem = match told {
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(newest))) => {
                state.send_modify(|state| {
                    state.newest = newest;
                    state.heard = true;
                    state.problem = None;
                    settle(state);
                });
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PROBE_WITHIN.as_secs()),
        };
        state.send_modify(|state| state.problem = Some(problem));
    }
}

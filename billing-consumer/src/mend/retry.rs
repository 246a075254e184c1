//! Dead letters brought again, once what stood in the way is gone: a newer version knows their schema, the
//! tables take their rows.
//!
//! An event that both lanes have given up goes into the log again, under a name that follows from its own
//! ([`again`]): brought twice it is billed once, and what is still no better comes back as a letter of that name.
//! A journal gives names itself: there the log is searched for the same bytes first. An event that only the
//! tables lack is put into them under its own name, since its spend is counted already.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use analytics::{Batch, EventSpan, Store};
use bytes::Bytes;
use journal::{EventLog, Start};
use metering::Catalog;
use schemas::{DeadLetter, Event, Identity, Partition, Pseq, SourceId, Standing, Text, Topic};
use xxhash_rust::xxh3::xxh3_64;

use super::{ACCEPTED_BY, Error};
use crate::dead_letters::{self, to_end};
use crate::rated::{Rated, rate};
use crate::rows::rows;

const STORE: &str = "store";
const BUDGET: &str = "budget";

/// What a retry works with.
pub struct Parts<'a> {
    pub log: &'a dyn EventLog,
    pub dead_letters: &'a [Arc<dyn EventLog>],
    pub way: Way,
    /// The tables, and up to where both lanes have come; absent where nothing runs.
    pub store: Option<&'a Store>,
    pub store_stands: Option<&'a Standing>,
    /// Absent: spend is in the memory of a process, which makes it from the tables.
    pub budgets_stand: Option<&'a Standing>,
    pub catalog: &'a Catalog,
}

/// How an event gets into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A broker keeps the name that it is given.
    Broker,
    /// A journal gives names itself.
    Journal,
    /// A journal that is somebody else's now.
    Closed,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    pub event: Identity,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is on the log again, under this name.
    Sent(Identity),
    /// Its rows are in the tables, which alone lacked it.
    Stored,
    /// It was brought before, under this name, and both lanes have it.
    Billed(Identity),
    /// It is no better than it was: why.
    Bad(String),
    /// Not now: why.
    Later(&'static str),
    /// Nothing to be brought: why.
    Left(&'static str),
}

/// The name under which an event is brought again.
#[must_use]
pub fn again(event: &Identity) -> Identity {
    let mut bytes = b"tollgate dlq retry".to_vec();
    bytes.extend(event.source_id.0.to_be_bytes());
    bytes.extend(event.partition.0.to_be_bytes());
    bytes.extend(event.pseq.0.to_be_bytes());
    Identity {
        // No source has the id 0.
        source_id: SourceId(xxh3_64(&bytes).max(1)),
        partition: event.partition,
        pseq: Pseq(1),
    }
}

/// The letters of one event.
struct Case {
    event: Identity,
    lanes: BTreeSet<Text>,
    body: Bytes,
}

/// Brings every event of the dead letters again that `wanted` names, but those that were brought already.
///
/// # Errors
/// The log, the tables or the dead letters failed; to be done again.
pub async fn retry(
    parts: &Parts<'_>,
    wanted: impl Fn(&Identity) -> bool,
) -> Result<Vec<Retried>, Error> {
    let cases = cases(parts.dead_letters).await?;
    let names: HashSet<Identity> = cases.iter().map(|case| case.event).collect();
    let known = match parts.way {
        Way::Broker => Vec::new(),
        Way::Journal | Way::Closed => same_bodies(parts.log, &cases, &names).await?,
    };
    // Cases come in the order of their names.
    let newest: HashMap<&Bytes, Identity> =
        cases.iter().map(|case| (&case.body, case.event)).collect();
    let mut retried = Vec::new();
    for case in &cases {
        // Of one that was brought before and came back, its newest name is tried.
        let came_back = match parts.way {
            Way::Broker => names.contains(&again(&case.event)),
            Way::Journal | Way::Closed => newest.get(&case.body) != Some(&case.event),
        };
        if wanted(&case.event) && !came_back {
            retried.push(Retried {
                event: case.event,
                outcome: one(parts, case, &known).await?,
            });
        }
    }
    Ok(retried)
}

async fn one(
    parts: &Parts<'_>,
    case: &Case,
    known: &[(Identity, Bytes)],
) -> Result<Outcome, Error> {
    let event = &case.event;
    if case.lanes.contains(ACCEPTED_BY) {
        return Ok(Outcome::Left("it is lost, as an operator has said"));
    }
    let lanes = (case.lanes.contains(BUDGET), case.lanes.contains(STORE));
    let name = again(event);
    let has = |standing: Option<&Standing>, event: &Identity| {
        standing.is_none_or(|standing| reaches(standing, event))
    };
    let billed = parts.way == Way::Broker
        && parts.store_stands.is_some()
        && has(parts.store_stands, &name)
        && has(parts.budgets_stand, &name);
    if lanes == (true, true) && billed {
        return Ok(Outcome::Billed(name));
    }
    let body = match parts.log.read_again(&case.body).await? {
        Some(body) => body,
        None => case.body.clone(),
    };
    let mut older = Vec::new();
    let billable = match rate(&body, &mut older, parts.catalog) {
        Ok(Rated::Poison(poison)) => return Ok(Outcome::Bad(poison.reason)),
        Ok(Rated::Billed(billed)) => Some(billed),
        // The lanes wait for the prices.
        Err(_) => None,
    };
    match lanes {
        (true, true) if parts.way == Way::Broker => {
            let log = parts.log;
            log.append_as(Topic::Usage, name, body.clone()).await?;
            Ok(Outcome::Sent(name))
        }
        (true, true) => {
            if let Some((other, _)) = known.iter().find(|(_, bytes)| *bytes == body) {
                return Ok(Outcome::Billed(*other));
            }
            if parts.way == Way::Closed {
                return Ok(Outcome::Later(
                    "its journal is in use: stop the gateway, and do this again",
                ));
            }
            let appended = parts
                .log
                .append(Topic::Usage, event.partition, body.clone())
                .await?;
            Ok(Outcome::Sent(appended.identity))
        }
        (false, true) => {
            let Some(store) = parts.store else {
                return Ok(Outcome::Later(
                    "its rows need the tables: start the gateway",
                ));
            };
            if !has(parts.budgets_stand, event) {
                return Ok(Outcome::Later("the budget lane has not come to it yet"));
            }
            let Some(billed) = billable else {
                return Ok(Outcome::Later("its prices are not in the catalog yet"));
            };
            let span = EventSpan {
                source: event.source_id,
                partition: event.partition,
                first: event.pseq,
                last: event.pseq,
            };
            if !store.span_sums(&[span]).await?.is_empty() {
                return Ok(Outcome::Billed(*event));
            }
            let (usage, cost) = rows(event, &billed);
            let mut batch = Batch::new();
            batch.push(&usage, &cost);
            match store.insert(&batch).await {
                Ok(()) => Ok(Outcome::Stored),
                Err(error) if error.is_poison() => Ok(Outcome::Bad(error.to_string())),
                Err(error) => Err(error.into()),
            }
        }
        (true, false) if parts.store.is_none() => {
            Ok(Outcome::Later("the tables cannot be asked for its rows"))
        }
        (true, false) if !has(parts.store_stands, event) => {
            Ok(Outcome::Later("the store lane has not come to it yet"))
        }
        (true, false) => Ok(Outcome::Left(
            "the tables have its rows: spend made anew from them has it too",
        )),
        (false, false) => Ok(Outcome::Left("it names no event")),
    }
}

/// Whether what it tells of has come to an event.
fn reaches(standing: &Standing, event: &Identity) -> bool {
    let source = (event.source_id, event.partition);
    let mut marks = standing.marks.iter();
    marks.any(|mark| (mark.source_id, mark.partition) == source && mark.pseq >= event.pseq)
}

/// Letters of usage events, by event.
async fn cases(logs: &[Arc<dyn EventLog>]) -> Result<Vec<Case>, Error> {
    let mut cases: BTreeMap<Identity, Case> = BTreeMap::new();
    for log in logs {
        for letter in dead_letters::all(&**log).await? {
            let Ok(partition) = u16::try_from(letter.of_partition) else {
                continue;
            };
            if letter.topic != u32::from(Topic::Usage as u8) || letter.of_source == 0 {
                continue;
            }
            let event = Identity {
                source_id: SourceId(letter.of_source),
                partition: Partition(partition),
                pseq: Pseq(letter.of_pseq),
            };
            let body = Bytes::from(letter.original.0);
            let stands_for_lost = DeadLetter::from_body(&body).is_ok();
            let case = cases.entry(event).or_insert_with(|| Case {
                event,
                lanes: BTreeSet::new(),
                body,
            });
            case.lanes.insert(letter.lane);
            if stands_for_lost {
                case.lanes.insert(ACCEPTED_BY.into());
            }
        }
    }
    Ok(cases.into_values().collect())
}

/// Records of a journal that have the bytes of one of these, and were not given up.
async fn same_bodies(
    log: &dyn EventLog,
    cases: &[Case],
    names: &HashSet<Identity>,
) -> Result<Vec<(Identity, Bytes)>, Error> {
    let bodies: HashSet<&Bytes> = cases.iter().map(|case| &case.body).collect();
    let mut found = Vec::new();
    let mut reader = log.reader("", &[Topic::Usage], Start::Beginning).await?;
    to_end(&mut *reader, |record| {
        if bodies.contains(&record.body) && !names.contains(&record.identity) {
            found.push((record.identity, record.body.clone()));
        }
    })
    .await?;
    Ok(found)
}

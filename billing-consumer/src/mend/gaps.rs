//! Holes in the sequences of sources, and their end: an operator says that the events are lost for good. In the
//! place of each a dead letter is put into the log, with the reason. Both lanes meet it like any event that
//! cannot be billed: they keep it with the others, go past it, and take up what waits behind it.

use std::collections::BTreeMap;

use bytes::Bytes;
use journal::{EventLog, Resume, Start};
use schemas::codec::Blob;
use schemas::{
    AuditBlock, AuditEvent, AuditKind, DeadLetter, Event, Identity, Partition, Pseq, SourceId,
    Standing, Topic,
};

use super::Error;
use crate::dead_letters::to_end;
use crate::now;

/// The lane of a letter that stands for a lost event.
pub const ACCEPTED_BY: &str = "operator";
/// Most events that are given up in one step: more are no slip of a broker, and deserve a look each.
pub const MOST: u64 = 10_000;

/// Events that are missing though later ones of their source are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    pub source: SourceId,
    pub partition: Partition,
    pub first: Pseq,
    pub last: Pseq,
    /// Events of the source that are there, and wait behind it.
    pub waiting: u64,
}

/// Numbers that were seen, as runs without a hole. Mostly one, since they come in order.
#[derive(Default)]
struct Runs(Vec<(u64, u64)>);

impl Runs {
    fn add(&mut self, number: u64) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some((first, last)) if (*first..=*last).contains(&number) => {}
            _ => self.0.push((number, number)),
        }
    }

    /// In order, none touching another.
    fn merged(mut self) -> Vec<(u64, u64)> {
        self.0.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (first, last) in self.0 {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        merged
    }
}

/// What is missing behind what the lanes have handled, as far as the log shows it.
///
/// # Errors
/// The log cannot be read to its end.
pub async fn holes(log: &dyn EventLog, standing: &Standing) -> Result<Vec<Hole>, Error> {
    let start = Start::After(Resume::of(Topic::Usage, standing));
    let mut reader = log.reader("", &[Topic::Usage], start).await?;
    let known: BTreeMap<_, _> = standing
        .marks
        .iter()
        .map(|mark| ((mark.source_id, mark.partition), mark.pseq.0))
        .collect();
    let mut seen: BTreeMap<(SourceId, Partition), Runs> = BTreeMap::new();
    to_end(&mut *reader, |record| {
        let Identity {
            source_id,
            partition,
            pseq,
        } = record.identity;
        let mark = known.get(&(source_id, partition)).copied().unwrap_or(0);
        if pseq.0 > mark {
            seen.entry((source_id, partition)).or_default().add(pseq.0);
        }
    })
    .await?;
    let mut holes = Vec::new();
    for ((source, partition), runs) in seen {
        let runs = runs.merged();
        let mut before = known.get(&(source, partition)).copied().unwrap_or(0);
        let mut left: u64 = runs.iter().map(|(first, last)| last - first + 1).sum();
        for (first, last) in runs {
            if first > before + 1 {
                holes.push(Hole {
                    source,
                    partition,
                    first: Pseq(before + 1),
                    last: Pseq(first - 1),
                    waiting: left,
                });
            }
            left -= last - first + 1;
            before = last;
        }
    }
    Ok(holes)
}

/// Gives up events for good: says so in the audit topic, then puts a letter with the reason in the place of each.
/// Cut off in between, it is to be done again. An event that turns up later is dropped as known.
///
/// # Errors
/// [`Error::NotMissing`] where one of them is not known to be missing; nothing was done.
pub async fn accept(
    log: &dyn EventLog,
    standing: &Standing,
    lost: &Hole,
    reason: &str,
) -> Result<(), Error> {
    let count = (lost.last.0 + 1).saturating_sub(lost.first.0);
    if count == 0 || count > MOST {
        return Err(Error::NotMissing(format!(
            "1 to {MOST} events can be accepted as lost at once, not {count}"
        )));
    }
    let is_missing = |hole: &Hole| {
        (hole.source, hole.partition) == (lost.source, lost.partition)
            && hole.first <= lost.first
            && lost.last <= hole.last
    };
    if !holes(log, standing).await?.iter().any(is_missing) {
        return Err(Error::NotMissing(format!(
            "events {} to {} of source {:016x} partition {} are not missing: `tollgate gap list` tells what is",
            lost.first.0, lost.last.0, lost.source.0, lost.partition.0
        )));
    }
    let note = AuditEvent {
        event_time: now(),
        kind: AuditKind::GapAccepted,
        last: Vec::new(),
        depth_bytes: 0,
        open_calls: 0,
        blocks: vec![AuditBlock {
            lane: ACCEPTED_BY.into(),
            of_source: lost.source.0,
            of_partition: u32::from(lost.partition.0),
            first: lost.first.0,
            last: lost.last.0,
            events: 0,
            poison: count,
            sum: "0".into(),
            print: 0,
        }],
    };
    log.append(Topic::Audit, Partition(0), Bytes::from(note.body()))
        .await?;
    for pseq in lost.first.0..=lost.last.0 {
        let identity = Identity {
            source_id: lost.source,
            partition: lost.partition,
            pseq: Pseq(pseq),
        };
        let letter = DeadLetter {
            event_time: now(),
            topic: u32::from(Topic::Usage as u8),
            of_source: lost.source.0,
            of_partition: u32::from(lost.partition.0),
            of_pseq: pseq,
            lane: ACCEPTED_BY.into(),
            error: reason.into(),
            original: Blob(Vec::new()),
        };
        log.append_as(Topic::Usage, identity, Bytes::from(letter.body()))
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_what_was_seen_in_any_order() {
        let mut runs = Runs::default();
        for number in [3, 4, 5, 9, 4, 8, 1, 20, 10] {
            runs.add(number);
        }
        assert_eq!(runs.merged(), [(1, 1), (3, 5), (8, 10), (20, 20)]);
    }
}

//! From where a worker reads, and how far the log goes: always asked of the brokers and told to them, offset by
//! offset. A place that the log does not hold is an error, never a jump.

use std::time::{Duration, Instant};

use journal::{HighWater, Start};
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{NAP, Worker, floor};
use crate::ahead::Order;

impl Worker {
    /// Takes the reader's own start, as soon as the brokers answer.
    pub(super) fn begin(&mut self) {
        let Some(start) = self.start.take() else {
            return;
        };
        if let Err(why) = self.go_to(&start) {
            self.trouble(why);
            self.start = Some(start);
            std::thread::park_timeout(NAP);
        }
    }

    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Seek(start, answer) => {
                let done = if self.start.is_some() && !self.has_partitions() {
                    // Nothing was dealt yet: it begins there when it is.
                    self.start = Some(start);
                    Ok(())
                } else {
                    let done = self.go_to(&start);
                    if done.is_ok() {
                        self.start = None;
                    }
                    done
                };
                // The reader may have stopped waiting; then it seeks again.
                let _ = answer.send(done);
            }
            Order::Look(answer) => {
                // Likewise.
                let _ = answer.send(self.look());
            }
        }
    }

    /// Reads on from another place, in all partitions that are dealt.
    fn go_to(&mut self, start: &Start) -> Result<(), String> {
        let places = self.places();
        let firsts = self.ask(&places, Offset::Beginning)?;
        let ends = self.ask(&places, Offset::End)?;
        let committed = match start {
            Start::Committed if !self.membership.group.is_empty() => self.committed(&places)?,
            _ => Vec::new(),
        };
        let mut wanted = Vec::with_capacity(places.len());
        for (at, &(topic, partition)) in places.iter().enumerate() {
            let (first, end) = (firsts[at], ends[at]);
            let from = match start {
                Start::Beginning => None,
                Start::Committed => committed.get(at).copied().flatten(),
                Start::After(resume) => {
                    let of = self.topics[topic].0;
                    let next = resume.next.iter().find(|(resumed, of_partition, _)| {
                        *resumed == of && i32::from(of_partition.0) == partition
                    });
                    next.and_then(|(_, _, offset)| i64::try_from(offset.0).ok())
                }
            };
            let from = from.unwrap_or(first);
            if !(first..=end).contains(&from) {
                let name = &self.topics[topic].1;
                return self.missing(format!(
                    "{name}, partition {partition} holds offsets {first} to {end}, and reading goes on at \
                     {from}: {}",
                    if from < first {
                        "events were deleted before they were applied"
                    } else {
                        "the topic lost events, or is another one"
                    }
                ));
            }
            wanted.push((topic, partition, from));
        }
        let list = self.list(
            wanted
                .iter()
                .map(|&(t, p, from)| (t, p, Offset::Offset(from))),
        )?;
        if self.membership.group.is_empty() {
            self.consumer
                .assign(&list)
                .map_err(|error| error.to_string())?;
        } else if !wanted.is_empty() {
            self.seek_all(&list)?;
            self.consumer
                .resume(&list)
                .map_err(|error| error.to_string())?;
        }
        self.known = match start {
            Start::After(resume) => resume.marks.iter().copied().collect(),
            Start::Beginning | Start::Committed => HighWater::default(),
        };
        (self.halted, self.paused) = (false, false);
        self.parked.clear();
        let mut state = self.shared.state.lock();
        state.clear();
        state.well();
        (state.reassigned, state.fault, state.joined) = (false, None, true);
        for (&(topic, partition, from), end) in wanted.iter().zip(ends) {
            if let Some(floor) = floor(&mut self.floors, topic, partition) {
                *floor = from;
            }
            if let Some(part) = state.part(topic, partition) {
                (part.handed, part.end) = (from, Some(end));
            }
        }
        self.looked = Instant::now();
        Ok(())
    }

    /// What is gone does not come back: repeated by the reader until it is told another place.
    pub(super) fn missing(&mut self, why: String) -> Result<(), String> {
        self.shared.state.lock().fault = Some(why.clone());
        self.halted = true;
        Err(why)
    }

    /// Right after a deal the client may not be ready to seek.
    pub(super) fn seek_all(&self, list: &TopicPartitionList) -> Result<(), String> {
        let deadline = Instant::now() + self.log.settings.timeout;
        loop {
            let done = self
                .consumer
                .seek_partitions(list.clone(), self.log.settings.timeout)
                .map_err(|error| error.to_string())
                .and_then(|done| {
                    let failed = done.elements().into_iter().find_map(|e| e.error().err());
                    failed.map_or(Ok(()), |error| Err(error.to_string()))
                });
            match done {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= deadline => return Err(why),
                Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
            }
        }
    }

    /// Offsets of the first or last records of partitions, in their order.
    pub(super) fn ask(&self, places: &[(usize, i32)], what: Offset) -> Result<Vec<i64>, String> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.list(
            places
                .iter()
                .map(|&(topic, partition)| (topic, partition, what)),
        )?;
        // The protocol takes these in the place of a time.
        let answered = self
            .consumer
            .offsets_for_times(list, self.log.settings.timeout)
            .map_err(|error| error.to_string())?;
        let offset = |&(topic, partition): &(usize, i32)| {
            let name = &self.topics[topic].1;
            let element = answered.find_partition(name, partition);
            let told = element.and_then(|element| {
                element.error().ok()?;
                match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                }
            });
            told.ok_or_else(|| format!("{name}, partition {partition}: the broker does not say where it begins and ends"))
        };
        places.iter().map(offset).collect()
    }

    fn committed(&self, places: &[(usize, i32)]) -> Result<Vec<Option<i64>>, String> {
        let list = self.list(places.iter().map(|&(t, p)| (t, p, Offset::Invalid)))?;
        let answered = self
            .consumer
            .committed_offsets(list, self.log.settings.timeout)
            .map_err(|error| error.to_string())?;
        let offset = |&(topic, partition): &(usize, i32)| {
            let element = answered.find_partition(&self.topics[topic].1, partition);
            match element.map(|element| (element.error(), element.offset())) {
                Some((Ok(()), Offset::Offset(offset))) => Ok(Some(offset)),
                Some((Err(error), _)) => Err(error.to_string()),
                _ => Ok(None),
            }
        };
        places.iter().map(offset).collect()
    }

    pub(super) fn list(
        &self,
        places: impl Iterator<Item = (usize, i32, Offset)>,
    ) -> Result<TopicPartitionList, String> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in places {
            list.add_partition_offset(&self.topics[topic].1, partition, offset)
                .map_err(|error| error.to_string())?;
        }
        Ok(list)
    }
}

//! A broker in memory: partitions, groups that deal them out anew when members come and go, and members
//! that do not notice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use journal::{Appended, Dealt, Error, EventLog, Lag, Position, Reader, Record, Start};
use parking_lot::Mutex;
use schemas::{Event, Identity, Partition, Pseq, SourceId, Topic};

use crate::world::usage;

pub const PARTITIONS: u16 = 4;

#[derive(Default)]
struct State {
    partitions: [Vec<Record>; PARTITIONS as usize],
    /// Members of each group, in the order of their coming.
    groups: HashMap<String, Vec<u64>>,
    /// Members that live on without hearing anything.
    frozen: Vec<u64>,
    members: u64,
    dealt: u64,
    commits: u64,
}

#[derive(Clone, Default)]
pub struct Broker(Arc<Mutex<State>>);

impl Broker {
    /// Event `pseq` of a source, in the partition that its source and number choose; it costs `nano`.
    pub fn deliver(&self, source: u64, partition: u16, pseq: u64, nano: i64) {
        let call = (source << 40) | (u64::from(partition) << 32) | pseq;
        let mut state = self.0.lock();
        let records = &mut state.partitions[usize::from(partition)];
        let record = Record {
            topic: Topic::Usage,
            identity: Identity {
                source_id: SourceId(source),
                partition: Partition(partition),
                pseq: Pseq(pseq),
            },
            position: Position(records.len() as u64),
            version: records.len() as u64 + 1,
            body: usage(call, nano).body().into(),
        };
        records.push(record);
    }

    /// Ten events of a source in every partition, from `first` on; each costs `nano`.
    pub fn deliver_all(&self, source: u64, first: u64, nano: i64) {
        for partition in 0..PARTITIONS {
            for pseq in first..first + 10 {
                self.deliver(source, partition, pseq, nano);
            }
        }
    }

    /// Everybody who is in the group now is thrown out of it, and does not hear of it.
    pub fn freeze(&self, group: &str) {
        let mut state = self.0.lock();
        let members = state.groups.remove(group).unwrap_or_default();
        state.frozen.extend(members);
        state.dealt += 1;
    }

    /// They hear of everything again.
    pub fn thaw(&self) {
        self.0.lock().frozen.clear();
    }

    /// Deals everything out anew, as a broker may at any time.
    pub fn rebalance(&self) {
        let mut state = self.0.lock();
        for members in state.groups.values_mut() {
            let step = members.len().min(1);
            members.rotate_left(step);
        }
        state.dealt += 1;
    }

    pub fn ends(&self) -> Vec<u64> {
        let state = self.0.lock();
        state
            .partitions
            .iter()
            .map(|part| part.len() as u64)
            .collect()
    }

    pub fn commits(&self) -> u64 {
        self.0.lock().commits
    }
}

#[async_trait]
impl EventLog for Broker {
    async fn append(&self, _: Topic, _: Partition, _: Bytes) -> Result<Appended, Error> {
        Err(Error::Closed)
    }

    async fn reader(
        &self,
        group: &str,
        _: &[Topic],
        start: Start,
    ) -> Result<Box<dyn Reader>, Error> {
        let mut state = self.0.lock();
        state.members += 1;
        state.dealt += 1;
        let member = state.members;
        state
            .groups
            .entry(group.to_owned())
            .or_default()
            .push(member);
        Ok(Box::new(Member {
            broker: self.clone(),
            group: group.to_owned(),
            member,
            dealt: 0,
            mine: Vec::new(),
            places: start_of(&start),
        }))
    }
}

fn start_of(start: &Start) -> HashMap<Partition, u64> {
    let Start::After(resume) = start else {
        return HashMap::new();
    };
    resume
        .next
        .iter()
        .map(|(_, partition, next)| (*partition, next.0))
        .collect()
}

struct Member {
    broker: Broker,
    group: String,
    member: u64,
    /// The dealing that it knows of.
    dealt: u64,
    mine: Vec<Partition>,
    places: HashMap<Partition, u64>,
}

impl Member {
    /// Takes what it is dealt.
    fn join(&mut self, state: &mut State) {
        if state.frozen.contains(&self.member) {
            return;
        }
        let members = state.groups.entry(self.group.clone()).or_default();
        let place = members.iter().position(|id| *id == self.member);
        let place = place.unwrap_or_else(|| {
            members.push(self.member);
            state.dealt += 1;
            members.len() - 1
        });
        let mine = |partition: &u16| usize::from(*partition) % members.len() == place;
        self.mine = (0..PARTITIONS).filter(mine).map(Partition).collect();
        self.dealt = state.dealt;
    }

    fn read(&mut self, max: usize) -> Result<Vec<Record>, Error> {
        let broker = self.broker.clone();
        let mut state = broker.0.lock();
        if self.dealt == 0 {
            self.join(&mut state);
        }
        if self.dealt != state.dealt && !state.frozen.contains(&self.member) {
            return Err(Error::Reassigned {
                group: self.group.clone(),
            });
        }
        let mut records = Vec::new();
        for partition in &self.mine {
            let place = self.places.entry(*partition).or_default();
            let all = &state.partitions[usize::from(partition.0)];
            let from = usize::try_from(*place).unwrap();
            let room = (max - records.len()).min(all.len() - from);
            records.extend_from_slice(&all[from..from + room]);
            *place += room as u64;
        }
        Ok(records)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.broker.0.lock();
        state.dealt += 1;
        if let Some(members) = state.groups.get_mut(&self.group) {
            members.retain(|id| *id != self.member);
        }
    }
}

#[async_trait]
impl Reader for Member {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, Error> {
        let mut records = self.read(max)?;
        if records.is_empty() {
            tokio::time::sleep(wait.min(Duration::from_millis(2))).await;
            records = self.read(max)?;
        }
        Ok(records)
    }

    async fn commit(&mut self) -> Result<(), Error> {
        self.broker.0.lock().commits += 1;
        Ok(())
    }

    async fn seek(&mut self, start: &Start) -> Result<(), Error> {
        let broker = self.broker.clone();
        self.join(&mut broker.0.lock());
        self.places = start_of(start);
        Ok(())
    }

    fn lag(&self) -> Lag {
        let state = self.broker.0.lock();
        let left = |partition: &Partition| {
            let end = state.partitions[usize::from(partition.0)].len() as u64;
            end - self.places.get(partition).copied().unwrap_or(0)
        };
        Lag::Records(self.mine.iter().map(left).sum())
    }

    fn dealt(&self) -> Dealt {
        Dealt::Partitions {
            mine: self.mine.clone(),
            of: PARTITIONS,
        }
    }
}

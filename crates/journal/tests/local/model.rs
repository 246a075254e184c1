//! Random lives of a journal against a list: append, sync, commit, restart, kill, power cut.

use journal::{HighWater, Journal, LocalReader, Record, Start, Sync, Verdict};
use proptest::prelude::*;
use schemas::{Identity, Partition, Topic};

use crate::support::{EVERY_TOPIC, Image, all, body, quick_dir, seen_from_outside, small};

#[derive(Debug, Clone)]
enum Step {
    Append {
        topic: usize,
        partition: u16,
        bytes: usize,
    },
    Burst(usize),
    Sync,
    /// A consumer reads so many records, and commits or not.
    Consume {
        max: usize,
        commit: bool,
    },
    Trim,
    Restart,
    Kill,
    /// Everything after a random place in the unsynced part is lost.
    PowerCut(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3usize, 0..4u16, prop_oneof![0..200usize, 0..16_000usize])
            .prop_map(|(topic, partition, bytes)| Step::Append { topic, partition, bytes }),
        2 => (1..60usize).prop_map(Step::Burst),
        2 => Just(Step::Sync),
        4 => (1..50usize, any::<bool>()).prop_map(|(max, commit)| Step::Consume { max, commit }),
        1 => Just(Step::Trim),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<prop::sample::Index>().prop_map(Step::PowerCut),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Written {
    topic: Topic,
    identity: Identity,
    body: Vec<u8>,
}

fn written(record: &Record) -> Written {
    Written {
        topic: record.topic,
        identity: record.identity,
        body: record.body.to_vec(),
    }
}

struct Life {
    root: tempfile::TempDir,
    lives: usize,
    journal: Option<Journal>,
    reader: Option<LocalReader>,
    model: Vec<Written>,
    /// So many of them are surely durable.
    durable: usize,
    consumed: HighWater,
    handed: usize,
    committed: usize,
}

impl Life {
    fn dir(&self) -> std::path::PathBuf {
        self.root.path().join(self.lives.to_string())
    }

    fn open(&mut self) {
        let options = journal::Options {
            retention: Some(std::time::Duration::ZERO),
            ..small(Sync::Group)
        };
        let (journal, _) = Journal::open(&self.dir(), options).expect("opens");
        self.reader = Some(
            journal
                .local_reader("group", &EVERY_TOPIC, &Start::Committed)
                .expect("a reader"),
        );
        self.handed = self.committed;
        self.journal = Some(journal);
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("is open")
    }

    fn append(&mut self, topic: Topic, partition: u16, bytes: usize) {
        let body = body(self.model.len(), bytes);
        let appended = self
            .journal()
            .append(topic, Partition(partition), &body)
            .expect("takes it");
        self.model.push(Written {
            topic,
            identity: appended.identity,
            body,
        });
    }

    /// Goes on with the files as they are now, or worse; the old process is gone.
    fn die(&mut self, worsen: impl FnOnce(&mut Image)) {
        let mut image = Image::of(&self.dir());
        worsen(&mut image);
        self.reader = None;
        self.journal = None;
        self.lives += 1;
        image.write(&self.dir());
        self.open();
        self.check(true);
    }

    /// The log holds a prefix of the model (less what was trimmed), and all that was durable.
    fn check(&mut self, may_be_shorter: bool) {
        let found: Vec<_> = all(self.journal())
            .expect("readable")
            .iter()
            .map(written)
            .collect();
        let first = match found.first() {
            Some(first) => self
                .model
                .iter()
                .position(|w| w == first)
                .expect("was appended"),
            None => self.model.len().min(self.durable),
        };
        assert!(
            first <= self.committed,
            "only committed records are trimmed"
        );
        let end = first + found.len();
        assert_eq!(found, self.model[first..end]);
        assert!(
            end >= self.durable,
            "{end} of {} durable records are left",
            self.durable
        );
        assert!(may_be_shorter || end == self.model.len());
        self.model.truncate(end);
        // Opening makes what it finds durable.
        if may_be_shorter {
            self.durable = end;
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append {
                topic,
                partition,
                bytes,
            } => {
                self.append(
                    [Topic::Usage, Topic::Cost, Topic::Audit][*topic],
                    *partition,
                    *bytes,
                );
            }
            Step::Burst(count) => (0..*count).for_each(|n| self.append(Topic::Usage, 0, n * 17)),
            Step::Sync => {
                self.journal().sync().expect("syncs");
                self.durable = self.model.len();
                let outside = seen_from_outside(&self.dir()).expect("readable");
                assert_eq!(
                    outside.last().map(written).as_ref(),
                    self.model.last().filter(|_| !outside.is_empty())
                );
            }
            Step::Consume { max, commit } => {
                let reader = self.reader.as_mut().expect("is open");
                for record in reader.read(*max).expect("readable") {
                    // Only what can not be taken back, each once, none missing; a restart repeats.
                    let at = self
                        .model
                        .iter()
                        .position(|w| *w == written(&record))
                        .expect("known");
                    self.durable = self.durable.max(at + 1);
                    let verdict = self.consumed.advance(record.topic, &record.identity);
                    assert!(!matches!(verdict, Verdict::Gap { .. }), "{verdict:?}");
                    self.handed = at + 1;
                }
                if *commit {
                    self.committed = self.handed;
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .expect("builds");
                    runtime
                        .block_on(journal::Reader::commit(reader))
                        .expect("commits");
                }
            }
            Step::Trim => {
                self.journal()
                    .mark_low_water(self.journal().end_position())
                    .expect("marks");
                self.journal().trim().expect("trims");
            }
            Step::Restart => {
                self.reader = None;
                self.journal = None;
                self.durable = self.model.len();
                self.open();
                self.check(false);
            }
            Step::Kill => {
                let all = self.model.len();
                self.die(|_| {});
                assert_eq!(self.model.len(), all, "kill -9 loses nothing");
            }
            Step::PowerCut(place) => {
                self.die(|image| {
                    image.restarted();
                    let (segment, offset) = image.synced();
                    for (name, bytes) in &mut image.files {
                        let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".seg"))
                        else {
                            continue;
                        };
                        match number.parse::<u64>().expect("a number").cmp(&segment) {
                            std::cmp::Ordering::Less => {}
                            std::cmp::Ordering::Equal => {
                                let from = (offset + place.index(bytes.len() - offset + 1))
                                    .min(bytes.len());
                                bytes[from..].fill(0);
                            }
                            std::cmp::Ordering::Greater => bytes.fill(0),
                        }
                    }
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]
    #[test]
    fn no_life_loses_what_was_durable(steps in prop::collection::vec(step(), 1..60)) {
        let mut life = Life {
            root: quick_dir(),
            lives: 0, journal: None, reader: None, model: Vec::new(), durable: 0,
            consumed: HighWater::default(), handed: 0, committed: 0,
        };
        life.open();
        for step in &steps {
            life.run(step);
        }
        life.run(&Step::Restart);
    }
}

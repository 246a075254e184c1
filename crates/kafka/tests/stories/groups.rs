//! Readers of one group: partitions move between them, and no event is lost or applied twice.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Duration;

use journal::{Dealt, Error, EventLog as _, HighWater, Lag, Reader, Start, Verdict};
use kafka::{Log, Settings};
use schemas::Topic;
use test_servers::Process;

use crate::world::{Sink, append, framed, identity, log, produce, take, usage_id};

const PARTITIONS: u16 = 8;

/// As a lane does: on a deal it drops what waits, asks its sink, and goes on there.
async fn work(reader: &mut dyn Reader, sink: &mut Sink) -> bool {
    match reader.next(100, Duration::from_millis(200)).await {
        Ok(records) => {
            sink.take(&records);
            false
        }
        Err(Error::Reassigned { .. }) => {
            reader
                .seek(&Start::After(sink.resume()))
                .await
                .expect("seeks");
            true
        }
        Err(error) => panic!("{error}"),
    }
}

fn mine(reader: &dyn Reader) -> usize {
    match reader.dealt() {
        Dealt::Partitions { mine, .. } => mine.len(),
        Dealt::All => panic!("a broker deals partitions"),
    }
}

#[tokio::test]
async fn partitions_move_between_readers_and_each_event_is_applied_once() {
    partitions_move(&log(PARTITIONS).await).await;
}

/// With brokers from before 4.0.
#[tokio::test]
async fn partitions_move_with_the_classic_protocol_as_well() {
    let mut settings = log(PARTITIONS).await.settings().clone();
    let classic = ("group.protocol".to_owned(), "classic".to_owned());
    settings.properties = [classic].into();
    partitions_move(&Log::new(settings).expect("a log")).await;
}

async fn partitions_move(log: &Log) {
    let mut appended = 0;
    let mut feed = async |count: usize| {
        for _ in 0..count {
            append(log, (appended % usize::from(PARTITIONS)) as u16, "event").await;
            appended += 1;
        }
        appended
    };
    // One sink: what two lanes share.
    let mut sink = Sink::default();
    let topics = [Topic::Usage];
    let start = || Start::After(sink.resume());
    let mut one = log
        .reader("lane", &topics, start())
        .await
        .expect("a reader");
    let all = feed(100).await;
    while sink.applied < all {
        assert!(
            !work(&mut *one, &mut sink).await,
            "alone, nothing is dealt anew"
        );
    }
    assert_eq!(mine(&*one), usize::from(PARTITIONS));
    one.commit().await.expect("commits");

    let start = Start::After(sink.resume());
    let mut two = log.reader("lane", &topics, start).await.expect("a reader");
    let mut moved = false;
    while mine(&*one) == usize::from(PARTITIONS) || mine(&*two) == 0 || !moved {
        moved |= work(&mut *one, &mut sink).await;
        work(&mut *two, &mut sink).await;
    }
    let all = feed(100).await;
    while sink.applied < all {
        work(&mut *one, &mut sink).await;
        work(&mut *two, &mut sink).await;
    }
    assert_eq!(mine(&*one) + mine(&*two), usize::from(PARTITIONS));

    drop(two);
    let all = feed(100).await;
    while sink.applied < all || mine(&*one) < usize::from(PARTITIONS) {
        work(&mut *one, &mut sink).await;
    }
    assert_eq!(sink.gaps, 0);
    // What was read and not applied when the partitions moved came again, or did not: once it counted.
    assert_eq!(sink.applied, all);
    while one.lag() != Lag::Records(0) {
        work(&mut *one, &mut sink).await;
    }
    assert_eq!(log.stats().strays, 0);
}

/// A committed position that lies behind is only a repetition.
#[tokio::test]
async fn a_sink_that_is_ahead_of_the_group_drops_what_it_knows() {
    let log = log(1).await;
    for n in 0..10 {
        append(&log, 0, &format!("{n}")).await;
    }
    let mut sink = Sink::default();
    let topics = [Topic::Usage];
    let mut reader = log
        .reader("ahead", &topics, Start::Committed)
        .await
        .expect("a reader");
    sink.take(&take(&mut *reader, 6).await[..6]);
    drop(reader);
    // With the marks alone, without an offset.
    let marks: Vec<_> = sink.marks.marks().collect();
    let start = Start::After(marks.into());
    let mut reader = log.reader("ahead", &topics, start).await.expect("a reader");
    sink.take(&take(&mut *reader, 4).await);
    assert_eq!((sink.applied, sink.repeated, sink.gaps), (10, 0, 0));
}

/// A record that somebody removed is seen by its missing number.
#[tokio::test]
async fn a_missing_record_is_a_gap() {
    let log = log(1).await;
    for pseq in [1, 2, 4, 5] {
        let message = framed(&identity(9, 0, pseq), "event", usage_id());
        produce(log.settings(), 0, &message, None);
    }
    let topics = [Topic::Usage];
    let mut reader = log
        .reader("gap", &topics, Start::Committed)
        .await
        .expect("a reader");
    let mut marks = HighWater::default();
    let judged: Vec<_> = take(&mut *reader, 4)
        .await
        .iter()
        .map(|record| marks.advance(record.topic, &record.identity))
        .collect();
    assert_eq!(judged[..2], [Verdict::Apply, Verdict::Apply]);
    assert!(matches!(judged[2], Verdict::Gap { expected } if expected.0 == 3));
}

const CHILD: &str = "TOLLGATE_TEST_READER";

/// Not a story: the process that is frozen in the next one. Reads, says so, and once it is told to go on,
/// commits and reads on until the partitions are no longer its own.
#[tokio::test]
async fn a_process_that_reads() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (bootstrap, prefix) = told.split_once('|').expect("two words");
    let mut settings = Settings::new(bootstrap);
    settings.topic_prefix = prefix.to_owned();
    let log = Log::new(settings).expect("a log");
    let topics = [Topic::Usage];
    let mut reader = log
        .reader("lane", &topics, Start::Committed)
        .await
        .expect("a reader");
    take(&mut *reader, 10).await;
    eprintln!("read");
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("a line");
    eprintln!("commit {}", reader.commit().await.is_ok());
    let mut told = Ok(Vec::new());
    while !matches!(told, Err(Error::Reassigned { .. })) {
        // What it had read ahead, or the news that it is a member no longer.
        told = reader.next(100, Duration::from_millis(100)).await;
    }
    eprintln!("reassigned");
}

/// Frozen past its session and thawed: its commit is refused, and it hears that its partitions are gone.
#[tokio::test]
async fn a_zombie_cannot_commit_and_is_told() {
    let log = log(2).await;
    for n in 0..10 {
        append(&log, n % 2, "event").await;
    }
    let settings = log.settings();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let (input, keyboard) = std::io::pipe().expect("a pipe");
    let (errors, output) = std::io::pipe().expect("a pipe");
    let zombie = Process::start(std::env::current_exe().expect("this test"), |command| {
        command
            .args(["--exact", "groups::a_process_that_reads", "--nocapture"])
            .env(
                CHILD,
                format!("{}|{}", settings.bootstrap_servers, settings.topic_prefix),
            )
            .stdin(input)
            .stdout(std::process::Stdio::null())
            .stderr(output);
    });
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            // Nobody listens once the story has ended.
            let _ = sender.send(line);
        }
    });
    assert_eq!(lines.recv().await.as_deref(), Some("read"));
    zombie.freeze();
    let mut heir = log
        .reader("lane", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    let mut sink = Sink::default();
    while sink.applied < 10 || mine(&*heir) < 2 {
        work(&mut *heir, &mut sink).await;
    }
    heir.commit().await.expect("commits");
    zombie.thaw();
    writeln!(&keyboard, "go on").expect("told");
    assert_eq!(lines.recv().await.as_deref(), Some("commit false"));
    assert_eq!(lines.recv().await.as_deref(), Some("reassigned"));
    drop(zombie);
    reading.join().expect("ends with the zombie");
}

//! Schemas against their files, against each other, and against bytes written once and kept.

use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum};
use schemas::codec::Blob;
use schemas::events::CURRENT;
use schemas::registry::{RELEASED, fingerprint};
use schemas::*;

fn identity() -> Identity {
    Identity {
        source_id: SourceId(0xdead_beef_dead_beef),
        partition: Partition(3),
        pseq: Pseq(300),
    }
}

fn attribution() -> Attribution {
    Attribution {
        team: Some("search".into()),
        key: Some(KeyHash([7; 32])),
        end_user: Some("änne".into()),
        tags: vec!["feature:chat".into(), "eu".into()],
        ..Attribution::default()
    }
}

fn budget() -> BudgetRef {
    BudgetRef {
        budget: "team:search".into(),
        window_start: Micros(0),
        window_end: Micros(i64::MAX),
    }
}

fn meters() -> Meters {
    let mut meters = Meters::default();
    meters.add(Meter::InputText, 1200);
    meters.add(Meter::OutputReasoning, 64);
    meters
}

fn usage() -> Usage {
    let at = Micros(1_790_000_000_000_000);
    Usage {
        event_time: at.plus_secs(1),
        admitted_at: at,
        request_id: RequestId([1; 16]),
        call_id: Some("mine".into()),
        attribution: attribution(),
        attempt_no: 1,
        last: true,
        outcome: Outcome::Cancelled,
        estimated: true,
        mismatch: true,
        stream: true,
        status: 200,
        error_code: Some("timeout".into()),
        finish_reason: Some("stop".into()),
        model_requested: "gpt".into(),
        provider: "openai".into(),
        model: "gpt-4o".into(),
        deployment: "d1".into(),
        service_tier: Some("flex".into()),
        meters: meters(),
        provider_usage: Blob(b"{\"prompt_tokens\":1200}".to_vec()),
        hold: NanoUsd(1_500_000),
        budgets: vec![budget()],
        catalog_version: 2,
        cache: CacheKind::Semantic,
        cache_similarity: 0.9375,
        saved: NanoUsd(12),
        first_byte_us: Some(120_000),
        duration_us: 1_000_000,
        stages: Stages {
            auth_us: 3,
            route_us: 1,
            admit_us: 14,
            cache_us: 900,
            connect_us: Some(2_100),
        },
        attempts: vec![Attempt {
            deployment: "d0".into(),
            provider: "azure".into(),
            model: "gpt-4o".into(),
            why: "first".into(),
            failure: Some("rate_limit".into()),
            status: 429,
            wait_us: 7,
            took_us: 5_000,
        }],
        compression: Some(Compression {
            strategy: "drop_middle".into(),
            tokens_before: 90_000,
            tokens_after: 30_000,
            messages_before: 80,
            messages_after: 24,
        }),
        parent: Some(RequestId([2; 16])),
        metadata: Some("{\"ticket\":7}".into()),
    }
}

/// One of each, every field set to something that its default is not.
fn samples() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    fn sample<E: Event + PartialEq + std::fmt::Debug>(
        event: E,
    ) -> (&'static str, Vec<u8>, Vec<u8>) {
        assert_eq!(
            E::from_body(&event.body()).as_ref(),
            Ok(&event),
            "{}",
            E::NAME
        );
        (E::NAME, event.datum(identity()), event.body())
    }
    let at = Micros(1_790_000_000_000_000);
    vec![
        sample(Admitted {
            event_time: at,
            request_id: RequestId([1; 16]),
            attribution: attribution(),
            model_requested: "gpt".into(),
            provider: "openai".into(),
            model: "gpt-4o".into(),
            deployment: "d1".into(),
            stream: true,
            hold: NanoUsd(1_500_000),
            input_bound: 900,
            output_cap: Some(256),
            budgets: vec![budget()],
            catalog_version: 2,
            config_version: 9,
            deadline: at.plus_secs(600),
        }),
        sample(Progress {
            event_time: at,
            request_id: RequestId([1; 16]),
            mark: StreamMark {
                provider: "openai".into(),
                model: "gpt-4o".into(),
                deployment: "d1".into(),
                attempt_no: 1,
                input_tokens: 10,
                output_tokens: 1000,
            },
            beside: vec![StreamMark {
                provider: "azure".into(),
                model: "gpt-4o".into(),
                deployment: "d0".into(),
                attempt_no: 2,
                input_tokens: 10,
                output_tokens: 0,
            }],
        }),
        sample(usage()),
        sample(CostEvent {
            event_time: at,
            usage_source: 5,
            usage_partition: 3,
            usage_pseq: 300,
            rating_seq: 1,
            catalog_version: 3,
            amount: NanoUsd(-17),
            exact: "-0.000000016999".into(),
            lines: vec![CostLine {
                meter: Meter::InputText,
                quantity: 1200,
                unit_price: "0.0000025".into(),
                amount: "0.003".into(),
            }],
            reason: "rerate".into(),
        }),
        sample(ConfigEvent {
            event_time: at,
            entity: ConfigEntity::Team,
            id: "search".into(),
            op: ConfigOp::Delete,
            body: "{}".into(),
            actor: "master".into(),
        }),
        sample(CatalogEvent {
            event_time: at,
            actor: "import".into(),
            entries: vec![PriceEntry {
                scope: "global".into(),
                provider: "openai".into(),
                model: "gpt-4o".into(),
                effective_from: Micros(0),
                effective_to: Some(at),
                source: "price page".into(),
                source_date: "2026-11-01".into(),
                max_input: Some(128_000),
                max_output: Some(16_384),
                rates: vec![Rate {
                    meter: Meter::InputText,
                    service_tier: Some("batch".into()),
                    context_above: 200_000,
                    price: "0.00000125".into(),
                }],
            }],
        }),
        sample(AuditEvent {
            event_time: at,
            kind: AuditKind::Heartbeat,
            last: vec![LastPseq {
                topic: 3,
                of_partition: 3,
                last: 300,
            }],
            depth_bytes: 4096,
            open_calls: 2,
            blocks: vec![AuditBlock {
                lane: "store".into(),
                of_source: 5,
                of_partition: 3,
                first: 1,
                last: 300,
                events: 299,
                poison: 1,
                sum: "123456789012345678901".into(),
                print: u64::MAX - 1,
            }],
        }),
        sample(DeadLetter {
            event_time: at,
            topic: 3,
            of_source: 5,
            of_partition: 3,
            of_pseq: 301,
            lane: "store".into(),
            error: "unknown schema".into(),
            original: Blob(vec![0, 255, 1]),
        }),
    ]
}

/// Our codec writes what an Avro library reads, in the schema's own field order.
#[test]
fn every_event_reads_back_through_an_avro_library() {
    for (name, datum, _) in samples() {
        let (_, text, _) = CURRENT.iter().find(|(of, ..)| *of == name).unwrap();
        let schema = Schema::parse_str(text).unwrap();
        let mut rest = datum.as_slice();
        let value = from_avro_datum(&schema, &mut rest, None).unwrap();
        assert!(rest.is_empty(), "{name}: bytes left over");
        let Value::Record(fields) = value else {
            panic!("{name} is not a record")
        };
        assert_eq!(fields[2], ("pseq".to_owned(), Value::Long(300)));
    }
}

#[test]
fn fingerprints_are_those_of_the_files() {
    let wrong: Vec<String> = CURRENT
        .iter()
        .map(|(name, text, stated)| (name, fingerprint(&Schema::parse_str(text).unwrap()), stated))
        .filter(|(_, real, stated)| real != *stated)
        .map(|(name, real, _)| format!("{name} = {real:#018x}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_released_version_reads_every_other_of_its_event() {
    for (a_name, a) in RELEASED {
        for (_, b) in RELEASED.iter().filter(|(b_name, _)| b_name == a_name) {
            let (a, b) = (Schema::parse_str(a).unwrap(), Schema::parse_str(b).unwrap());
            SchemaCompatibility::mutual_read(&a, &b).unwrap_or_else(|e| panic!("{a_name}: {e}"));
        }
    }
    for (name, current, _) in CURRENT {
        assert!(
            RELEASED.contains(&(name, current)),
            "{name}: the current schema is not released"
        );
    }
}

/// Bytes as they lie in the journals of users: a change of one is a break.
#[test]
fn golden_bytes_stay_as_they_are() {
    let golden = include_str!("golden.v4.txt");
    let written: String = samples()
        .iter()
        .map(|(name, _, body)| format!("{name} {}\n", hex::encode(body)))
        .collect();
    assert_eq!(written, golden);
}

/// What an older version wrote reads as today's event, with what it lacked at its default.
#[test]
fn golden_bytes_of_older_versions_still_read() {
    let old = |name: &str, golden: &'static str| {
        let mut lines = golden.lines().filter_map(|line| line.split_once(' '));
        let (_, body) = lines.find(|(of, _)| *of == name).unwrap();
        assert!(
            !include_str!("golden.v4.txt").contains(body),
            "{name} is of today"
        );
        hex::decode(body).unwrap()
    };
    let heartbeat = AuditEvent {
        event_time: Micros(1_790_000_000_000_000),
        kind: AuditKind::Heartbeat,
        last: vec![LastPseq {
            topic: 3,
            of_partition: 3,
            last: 300,
        }],
        depth_bytes: 4096,
        open_calls: 2,
        blocks: Vec::new(),
    };
    let read = AuditEvent::from_body(&old(AuditEvent::NAME, include_str!("golden.v1.txt")));
    assert_eq!(read, Ok(heartbeat));
    let usage = Usage {
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
        ..usage()
    };
    let read = Usage::from_body(&old(Usage::NAME, include_str!("golden.v2.txt")));
    assert_eq!(read, Ok(usage));
    let read = Progress::from_body(&old(Progress::NAME, include_str!("golden.v3.txt")));
    assert!(read.is_ok_and(|read| read.mark.output_tokens == 1000 && read.beside.is_empty()));
}

#[test]
fn broken_bytes_are_refused_and_never_panic() {
    for (name, _, body) in samples() {
        for cut in 0..body.len() {
            assert!(decodes(name, &body[..cut]).is_err(), "{name} cut at {cut}");
        }
        let mut long = body.clone();
        long.push(0);
        assert_eq!(
            decodes(name, &long),
            Err(DecodeError::Trailing(1)),
            "{name}"
        );
        for at in 0..body.len() {
            let mut flipped = body.clone();
            flipped[at] ^= 0xff;
            let _ = decodes(name, &flipped);
        }
    }
}

fn decodes(name: &str, body: &[u8]) -> Result<(), DecodeError> {
    match name {
        Admitted::NAME => Admitted::from_body(body).map(drop),
        Progress::NAME => Progress::from_body(body).map(drop),
        Usage::NAME => Usage::from_body(body).map(drop),
        CostEvent::NAME => CostEvent::from_body(body).map(drop),
        ConfigEvent::NAME => ConfigEvent::from_body(body).map(drop),
        CatalogEvent::NAME => CatalogEvent::from_body(body).map(drop),
        AuditEvent::NAME => AuditEvent::from_body(body).map(drop),
        DeadLetter::NAME => DeadLetter::from_body(body).map(drop),
        other => panic!("{other} has no reader"),
    }
}

/// Whatever a record is, reading it in place takes and refuses what reading it whole does.
#[test]
fn a_view_reads_what_decoding_reads() {
    let (_, _, body) = samples()
        .into_iter()
        .find(|(name, _, _)| *name == Usage::NAME)
        .unwrap();
    let agree = |body: &[u8]| {
        let mut older = Vec::new();
        let viewed = Usage::view_of(body, &mut older).map(|view| Usage::owned(&view));
        let decoded = Usage::from_body(body);
        // As text: a damaged number may be no number.
        assert_eq!(format!("{viewed:?}"), format!("{decoded:?}"));
        decoded.is_ok()
    };
    assert!(agree(&body));
    let (mut good, mut bad) = (0, 0);
    for at in 0..body.len() {
        agree(&body[..at]);
        for flip in [1, 2, 0x40, 0x80, 0xff] {
            let mut damaged = body.clone();
            damaged[at] ^= flip;
            *(if agree(&damaged) { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(good > 100 && bad > 100, "{good} {bad}");
}

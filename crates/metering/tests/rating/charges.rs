//! What a record is charged: by the catalog that it pins, the narrowest scope, the newest entry.

use metering::{Catalog, PriceKey, charge};
use schemas::{
    Attribution, BudgetRef, CacheKind, CatalogEvent, Meter::*, Meters, Micros, NanoUsd, Outcome,
    PriceEntry, RequestId, Stages, Usage, codec::Blob,
};

use super::{entry, meters};

fn usage() -> Usage {
    Usage {
        event_time: Micros(20),
        admitted_at: Micros(10),
        request_id: RequestId([0; 16]),
        call_id: None,
        attribution: Attribution::default(),
        attempt_no: 1,
        last: true,
        outcome: Outcome::Ok,
        estimated: false,
        mismatch: false,
        stream: false,
        status: 200,
        error_code: None,
        finish_reason: None,
        model_requested: "m".into(),
        provider: "openai".into(),
        model: "m".into(),
        deployment: "d".into(),
        service_tier: None,
        meters: meters(&[(InputText, 3), (OutputText, 2)]),
        provider_usage: Blob::default(),
        hold: NanoUsd(99),
        budgets: vec![BudgetRef {
            budget: "global".into(),
            window_start: Micros(0),
            window_end: Micros(i64::MAX),
        }],
        catalog_version: 1,
        cache: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd::ZERO,
        first_byte_us: None,
        duration_us: 0,
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
    }
}

fn catalog(entries: &[PriceEntry]) -> Catalog {
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries: entries.to_vec(),
    };
    Catalog::new().apply(1, &event).unwrap()
}

#[test]
fn an_event_is_charged_at_the_version_it_pins() {
    let cheap = entry(&[
        (InputText, None, 0, "0.000000001"),
        (OutputText, None, 0, "0.00000001"),
    ]);
    let dear = entry(&[(InputText, None, 0, "1"), (OutputText, None, 0, "1")]);
    let first = catalog(&[cheap]);
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries: vec![dear],
    };
    let second = first.apply(2, &event).unwrap();
    let pinned = usage();
    assert_eq!(charge(&pinned, &second).unwrap().amount, NanoUsd(23));
    assert_eq!(charge(&pinned, &first), charge(&pinned, &second));
    let later = Usage {
        catalog_version: 2,
        ..usage()
    };
    assert_eq!(
        charge(&later, &second).unwrap().amount,
        NanoUsd::from_usd(5)
    );
    let not_yet = charge(&later, &first).unwrap_err();
    assert_eq!((not_yet.needs, not_yet.have), (2, 1));
}

/// No answer tells of it: a record that was billable at all is one request.
#[test]
fn a_fee_per_request_is_charged_with_each_record_that_used_something() {
    let known = catalog(&[entry(&[
        (InputText, None, 0, "0.000000001"),
        (OutputText, None, 0, "0.00000001"),
        (Requests, None, 0, "0.0000001"),
    ])]);
    let amount = |meters: Meters, outcome: Outcome| {
        let usage = Usage {
            meters,
            outcome,
            ..usage()
        };
        charge(&usage, &known).unwrap().amount.0
    };
    let used = usage().meters;
    assert_eq!(amount(used.clone(), Outcome::Ok), 23 + 100);
    assert_eq!(amount(used.clone(), Outcome::Cancelled), 23 + 100);
    assert_eq!(amount(used.clone(), Outcome::CacheHit), 0);
    assert_eq!(amount(Meters::default(), Outcome::Error), 0);
    let mut told = used;
    told.add(Requests, 2);
    assert_eq!(amount(told, Outcome::Ok), 23 + 200);
}

/// Nobody knows how far its provider went, so what a limit was promised is gone; without a limit there is no
/// hold, and the last that was known is charged.
#[test]
fn a_call_that_a_crash_cut_off_is_charged_its_hold() {
    let known = catalog(&[entry(&[
        (InputText, None, 0, "0.000000001"),
        (OutputText, None, 0, "0.00000001"),
    ])]);
    let amount = |hold: i64, outcome: Outcome, last: bool| {
        let usage = Usage {
            hold: NanoUsd(hold),
            outcome,
            last,
            estimated: true,
            ..usage()
        };
        let charge = charge(&usage, &known).unwrap();
        assert_eq!(charge.exact, charge.amount.to_atto());
        charge.amount.0
    };
    assert_eq!(amount(99, Outcome::Abandoned, true), 99);
    assert_eq!(amount(0, Outcome::Abandoned, true), 23);
    assert_eq!(amount(99, Outcome::Abandoned, false), 23);
    assert_eq!(amount(99, Outcome::Cancelled, true), 23);
}

#[test]
fn cache_hits_and_empty_records_are_free_and_the_unpriced_is_never_silently_zero() {
    let known = catalog(&[entry(&[
        (InputText, None, 0, "1"),
        (OutputText, None, 0, "1"),
    ])]);
    let amount = |usage: &Usage| {
        let charge = charge(usage, &known).unwrap();
        assert_eq!(charge.exact, charge.amount.to_atto());
        (charge.amount.0, charge.unpriced.map(|why| why.name()))
    };
    let hit = Usage {
        outcome: Outcome::CacheHit,
        cache: CacheKind::Exact,
        ..usage()
    };
    assert_eq!(amount(&hit), (0, None));
    let unknown = Usage {
        model: "new".into(),
        ..usage()
    };
    // checked against a budget: the ceiling that was held; else nothing; both flagged
    assert_eq!(amount(&unknown), (99, Some("unknown_model")));
    let free = Usage {
        budgets: Vec::new(),
        ..unknown.clone()
    };
    assert_eq!(amount(&free), (0, Some("unknown_model")));
    let attempt = Usage {
        last: false,
        ..unknown.clone()
    };
    assert_eq!(amount(&attempt), (0, Some("unknown_model")));
    let failed = Usage {
        outcome: Outcome::Error,
        meters: Meters::default(),
        ..unknown
    };
    assert_eq!(amount(&failed), (0, None));
    let tier = Usage {
        service_tier: Some("scale".into()),
        ..usage()
    };
    assert_eq!(amount(&tier), (99, Some("unknown_tier")));
}

#[test]
fn the_narrowest_scope_wins_and_then_the_newest_entry() {
    let scoped = |scope: &str, from: i64, to: Option<i64>, usd: &str| PriceEntry {
        scope: scope.into(),
        effective_from: Micros(from),
        effective_to: to.map(Micros),
        ..entry(&[(InputText, None, 0, usd)])
    };
    let known = catalog(&[
        scoped("global", 0, None, "1"),
        scoped("global", 100, None, "2"),
        scoped("org:acme", 0, None, "3"),
        scoped("deployment:eu", 0, Some(50), "4"),
    ]);
    let unit = |org, deployment, at| {
        let key = PriceKey {
            org,
            deployment,
            provider: "openai",
            model: "m",
        };
        let found = known.price(&key, Micros(at), 1)?;
        Some(found.unit(InputText, None, 0).unwrap().to_string())
    };
    assert_eq!(unit("default", "us", 99).as_deref(), Some("1.0"));
    assert_eq!(unit("default", "us", 100).as_deref(), Some("2.0"));
    assert_eq!(unit("acme", "us", 100).as_deref(), Some("3.0"));
    assert_eq!(unit("acme", "eu", 49).as_deref(), Some("4.0"));
    assert_eq!(unit("acme", "eu", 50).as_deref(), Some("3.0"));
    assert_eq!(unit("default", "us", -1), None);
}

#[test]
fn a_price_that_is_no_longer_stated_ends_and_what_was_rated_stays() {
    let own = PriceEntry {
        scope: "deployment:eu".into(),
        source: "config".into(),
        ..entry(&[(InputText, None, 0, "4")])
    };
    let event = |entries: Vec<PriceEntry>| CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries,
    };
    let first = catalog(&[entry(&[(InputText, None, 0, "1")]), own.clone()]);
    let ended = |catalog: &Catalog, stated: &[PriceEntry], at| {
        catalog.ended(|id| id == "eu", "config", stated, Micros(at))
    };
    assert!(ended(&first, std::slice::from_ref(&own), 70).is_empty());
    assert!(first.ended(|_| false, "config", &[], Micros(70)).is_empty());
    let ends = ended(&first, &[], 70);
    assert_eq!(ends.len(), 1);
    let second = first.apply(2, &event(ends)).unwrap();
    assert!(ended(&second, &[], 80).is_empty(), "it has ended");
    let third = second.apply(3, &event(second.changes(&[own]))).unwrap();
    for (known, version, at, usd) in [
        (&first, 1, 90, "4.0"),
        // As it was known before, and after.
        (&second, 1, 90, "4.0"),
        (&second, 2, 69, "4.0"),
        (&second, 2, 70, "1.0"),
        // Stated again.
        (&third, 3, 90, "4.0"),
        (&third, 2, 90, "1.0"),
    ] {
        let key = PriceKey {
            org: "default",
            deployment: "eu",
            provider: "openai",
            model: "m",
        };
        let price = known.price(&key, Micros(at), version).unwrap();
        let unit = price.unit(InputText, None, 0).unwrap().to_string();
        assert_eq!(unit, usd, "version {version} at {at}");
    }
}

#[test]
fn a_log_of_prices_is_only_added_to_and_only_when_something_changes() {
    let one = entry(&[(InputText, None, 0, "1"), (OutputText, None, 0, "2")]);
    let known = catalog(std::slice::from_ref(&one));
    // the same prices in other words
    let reworded = PriceEntry {
        source: "elsewhere".into(),
        ..entry(&[
            (OutputText, None, 0, "2.000"),
            (InputText, Some("default"), 0, "1e0"),
        ])
    };
    assert!(known.changes(&[reworded]).is_empty());
    let dearer = entry(&[(InputText, None, 0, "1.5"), (OutputText, None, 0, "2")]);
    assert_eq!(known.changes(std::slice::from_ref(&dearer)), [dearer]);
    let event = |entries: Vec<PriceEntry>| CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries,
    };
    assert!(known.apply(1, &event(vec![])).is_err());
    let bad = PriceEntry {
        scope: "team:x".into(),
        ..one.clone()
    };
    assert!(known.apply(2, &event(vec![bad])).is_err());
    assert_eq!(known.apply(7, &event(vec![])).unwrap().version(), 7);

    // what people set stands against what ships
    let ours = PriceEntry {
        source: "built-in: list".into(),
        ..entry(&[(InputText, None, 0, "9")])
    };
    assert!(
        known
            .builtin_changes(std::slice::from_ref(&ours))
            .is_empty()
    );
    let shipped = catalog(std::slice::from_ref(&ours));
    let next = PriceEntry {
        source: "built-in: newer list".into(),
        ..entry(&[(InputText, None, 0, "8")])
    };
    assert!(shipped.builtin_changes(&[ours]).is_empty());
    assert_eq!(shipped.builtin_changes(std::slice::from_ref(&next)), [next]);
    assert_eq!(shipped.entries().count(), 1);
}

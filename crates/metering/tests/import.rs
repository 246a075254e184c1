//! LiteLLM's price file, read without losing a digit or a word.

use metering::import::{Import, Report, import_litellm};
use metering::{Catalog, Error, Price};
use schemas::{CatalogEvent, Meter, Micros, PriceEntry};

const HOW: Import<'static> = Import {
    source: "price file",
    source_date: "2026-11-21",
    effective_from: Micros(0),
    approved: &[],
};

fn import(text: &str, against: &Catalog) -> (Vec<PriceEntry>, Report) {
    import_litellm(text, against, &HOW).unwrap()
}

fn after(entries: Vec<PriceEntry>) -> Catalog {
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries,
    };
    Catalog::new().apply(1, &event).unwrap()
}

const FILE: &str = r#"{
  "sample_spec": {"litellm_provider": "one of many", "input_cost_per_token": 0.0},
  "gemini/big": {
    "litellm_provider": "gemini", "mode": "chat",
    "max_input_tokens": 1048576, "max_output_tokens": "65536",
    "input_cost_per_token": 1.2500000000000001e-06,
    "input_cost_per_token_above_200k_tokens": 2.5e-06,
    "input_cost_per_token_above_200k_tokens_priority": 4.5e-06,
    "input_cost_per_token_batches": 6.25E-7,
    "output_cost_per_token": 1e-05,
    "cache_read_input_token_cost": 1.25e-07, "input_cost_per_token_cache_hit": 1.25e-07,
    "cache_creation_input_token_cost_above_1hr": 2.5e-06,
    "output_cost_per_reasoning_token": 1.1e-05,
    "search_context_cost_per_query":
      {"search_context_size_low": 0.035, "search_context_size_medium": 0.035, "search_context_size_high": 0.035},
    "output_cost_per_pixel": 1.9e-08,
    "provider_specific_entry": {"us": 1.1},
    "supports_vision": true, "source": "https://example.org/prices"
  },
  "steps": {
    "litellm_provider": "dashscope",
    "tiered_pricing": [
      {"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06},
      {"range": [32000.0, 128000.0], "input_cost_per_token": 2e-06, "output_cost_per_token": 9e-06}
    ]
  },
  "command-x": {"litellm_provider": "cohere_chat", "input_cost_per_token": 1e-06, "output_cost_per_pixel": 1e-09},
  "deepseek-y": {"litellm_provider": "deepseek", "input_cost_per_token": 3e-07},
  "deepseek/deepseek-y": {"litellm_provider": "deepseek", "input_cost_per_token": 3.0e-7},
  "free-or-unknown": {"litellm_provider": "openai", "input_cost_per_token": 0.0},
  "too-fine": {"litellm_provider": "openai", "input_cost_per_token": 1.1428571428571428e-06},
  "of-nobody": {"input_cost_per_token": 1e-06}
}"#;

#[test]
fn prices_come_from_the_text_and_the_rest_is_reported_by_name() {
    let (entries, report) = import(FILE, &Catalog::new());
    assert_eq!((report.models, report.added, entries.len()), (8, 4, 4));
    let big = entries.iter().find(|entry| &*entry.model == "big").unwrap();
    assert_eq!(
        (&*big.provider, &*big.scope, &*big.source),
        ("gemini", "global", "https://example.org/prices")
    );
    assert_eq!(
        (big.max_input, big.max_output),
        (Some(1_048_576), Some(65_536))
    );
    let price = Price::try_from(big).unwrap();
    let unit = |meter, tier, prompt| price.unit(meter, tier, prompt).unwrap().to_string();
    assert_eq!(unit(Meter::InputText, None, 1), "0.00000125");
    assert_eq!(unit(Meter::InputText, None, 200_001), "0.0000025");
    assert_eq!(
        unit(Meter::InputText, Some("priority"), 200_001),
        "0.0000045"
    );
    assert_eq!(unit(Meter::InputText, Some("batch"), 1), "0.000000625");
    assert_eq!(unit(Meter::InputCacheRead, None, 1), "0.000000125");
    assert_eq!(unit(Meter::InputCacheWrite1h, None, 1), "0.0000025");
    assert_eq!(unit(Meter::OutputReasoning, None, 1), "0.000011");
    assert_eq!(unit(Meter::Searches, None, 1), "0.035");
    let steps = entries
        .iter()
        .find(|entry| &*entry.model == "steps")
        .unwrap();
    let steps = Price::try_from(steps).unwrap();
    let unit = |prompt| {
        steps
            .unit(Meter::OutputText, None, prompt)
            .unwrap()
            .to_string()
    };
    assert_eq!(
        (unit(32_000), unit(32_001)),
        ("0.000005".to_owned(), "0.000009".to_owned())
    );
    assert!(
        entries
            .iter()
            .any(|e| (&*e.provider, &*e.model) == ("cohere", "command-x"))
    );

    let not_mapped: Vec<_> = report
        .not_mapped
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(
        not_mapped,
        [("output_cost_per_pixel", 2), ("provider_specific_entry", 1)]
    );
    assert_eq!(report.duplicates, 1);
    assert_eq!(&*report.without_price[0], "free-or-unknown");
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|r| (&*r.name, r.reason.as_str()))
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0].0 == "too-fine" && refused[0].1.contains("18 decimal"),
        "{refused:?}"
    );
    assert!(refused[1].0 == "of-nobody" && refused[1].1.contains("litellm_provider"));
}

#[test]
fn a_second_import_adds_nothing_and_a_change_is_shown() {
    let known = after(import(FILE, &Catalog::new()).0);
    let (entries, report) = import(FILE, &known);
    assert!(entries.is_empty() && report.changes.is_empty());
    assert_eq!((report.unchanged, report.added, report.changed), (4, 0, 0));

    let dearer = FILE.replace(
        r#""input_cost_per_token": 1e-06, "output_cost_per_pixel""#,
        r#""input_cost_per_token": 2e-06, "output_cost_per_pixel""#,
    );
    let (entries, report) = import(&dearer, &known);
    assert_eq!(
        (entries.len(), report.changed, report.changes.len()),
        (1, 1, 1)
    );
    let change = &report.changes[0];
    assert_eq!(
        (&*change.provider, &*change.model, change.meter),
        ("cohere", "command-x", Meter::InputText)
    );
    assert_eq!(change.old.unwrap().to_string(), "0.000001");
    assert_eq!(change.new.unwrap().to_string(), "0.000002");
}

#[test]
fn a_jump_of_more_than_ten_times_needs_approval() {
    let file = |price: &str| {
        format!(
            r#"{{"m": {{"litellm_provider": "openai", "input_cost_per_token": {price}, "output_cost_per_token": 1e-6}}}}"#
        )
    };
    let known = after(import(&file("1e-6"), &Catalog::new()).0);
    for (price, taken) in [
        ("1e-5", 1),
        ("1.1e-5", 0),
        ("1e-7", 1),
        ("9e-8", 0),
        ("0", 0),
    ] {
        let (entries, report) = import(&file(price), &known);
        assert_eq!(entries.len(), taken, "{price}");
        assert_eq!(report.refused.len(), 1 - taken, "{price}");
        assert_eq!(report.changes.len(), 1, "{price}");
    }
    let how = Import {
        approved: &["openai/m"],
        ..HOW
    };
    let (entries, report) = import_litellm(&file("1.1e-5"), &known, &how).unwrap();
    assert_eq!((entries.len(), report.refused.len()), (1, 0));
}

#[test]
fn what_is_no_price_file_is_refused() {
    for text in ["", "[]", "{", r#"{"a": }"#] {
        let error = import_litellm(text, &Catalog::new(), &HOW).unwrap_err();
        assert!(matches!(error, Error::BadImport { .. }), "{text}");
    }
    let (entries, report) = import(r#"{"m": 3}"#, &Catalog::new());
    assert!(entries.is_empty());
    assert_eq!(report.refused[0].reason, "it is not an object");
}

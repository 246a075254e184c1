//! What a field of LiteLLM's file means: its name is a base, a cache time, a context size, a service tier.

use schemas::Meter;

/// Where a price belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub tier: Option<&'static str>,
    pub above: u64,
    pub meter: Meter,
}

/// The mode of a price that an operator states: there is no doubt that it is meant.
pub(super) const STATED: &str = "stated";

pub(super) const SEARCHES: At = At {
    tier: None,
    above: 0,
    meter: Meter::Searches,
};

/// The kinds of field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    NotMoney,
    Price(At),
    /// Prices of a search by the size of the context it brings.
    Searches,
    /// A list of prices by ranges of prompt tokens.
    Tiers,
    /// About money, and nothing that our meters count.
    NotMapped,
}

/// Suffixes, and the service tier as answers name it.
const TIERS: [(&str, &str); 6] = [
    ("_batches", "batch"),
    ("_flex", "flex"),
    ("_priority", "priority"),
    ("_balanced", "balanced"),
    ("_ultrafast", "ultrafast"),
    ("_decisions", "decisions"),
];

const ABOUT_MONEY: [&str; 6] = [
    "cost",
    "pric",
    "multiplier",
    "free_requests",
    "provider_specific_entry",
    "billing",
];

/// Reads the name of a field of a model of that mode.
pub(super) fn read(name: &str, mode: &str) -> Field {
    match name {
        "search_context_cost_per_query" => return Field::Searches,
        "tiered_pricing" => return Field::Tiers,
        _ if !ABOUT_MONEY.iter().any(|word| name.contains(word)) => return Field::NotMoney,
        _ => {}
    }
    let (rest, tier) = TIERS
        .iter()
        .find_map(|(suffix, tier)| Some((name.strip_suffix(suffix)?, Some(*tier))))
        .unwrap_or((name, None));
    let (rest, above) = context(rest);
    match meter(rest, mode) {
        Some(meter) => Field::Price(At { tier, above, meter }),
        None => Field::NotMapped,
    }
}

/// Takes `_above_200k_tokens` off the end.
fn context(name: &str) -> (&str, u64) {
    let split = || {
        let (base, size) = name.strip_suffix("k_tokens")?.rsplit_once("_above_")?;
        let thousands: u64 = size.parse().ok()?;
        Some((base, thousands.checked_mul(1000)?))
    };
    split().unwrap_or((name, 0))
}

fn meter(base: &str, mode: &str) -> Option<Meter> {
    Some(match base {
        "input_cost_per_token" => Meter::InputText,
        "output_cost_per_token" => Meter::OutputText,
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" => Meter::InputCacheRead,
        "cache_creation_input_token_cost" => Meter::InputCacheWrite5m,
        "cache_creation_input_token_cost_above_1hr" => Meter::InputCacheWrite1h,
        "output_cost_per_reasoning_token" => Meter::OutputReasoning,
        "input_cost_per_audio_token" => Meter::InputAudio,
        "input_cost_per_image_token" => Meter::InputImage,
        "input_cost_per_video_token" => Meter::InputVideo,
        "output_cost_per_audio_token" => Meter::OutputAudio,
        "output_cost_per_image_token" => Meter::OutputImage,
        // `Images` counts made images; images that are looked at count in tokens.
        "output_cost_per_image" => Meter::Images,
        "ocr_cost_per_page" => Meter::Pages,
        "input_cost_per_request" => Meter::Requests,
        // A reranking is billed by its searches, one for so many documents.
        "input_cost_per_query" if matches!(mode, "rerank" | "search" | STATED) => Meter::Searches,
        "input_cost_per_second" | "output_cost_per_second" | "cost_per_second"
            if matches!(
                mode,
                "audio_transcription" | "audio_speech" | "video_generation" | STATED
            ) =>
        {
            Meter::Seconds
        }
        "input_cost_per_character" if matches!(mode, "audio_speech" | STATED) => Meter::Characters,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_base_then_time_then_size_then_tier() {
        let at = |tier, above, meter| Field::Price(At { tier, above, meter });
        let cases = [
            ("input_cost_per_token", at(None, 0, Meter::InputText)),
            (
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
                at(None, 200_000, Meter::InputCacheWrite1h),
            ),
            (
                "output_cost_per_token_above_272k_tokens_priority",
                at(Some("priority"), 272_000, Meter::OutputText),
            ),
            (
                "input_cost_per_audio_token_batches",
                at(Some("batch"), 0, Meter::InputAudio),
            ),
            (
                "cache_creation_input_token_cost_above_12hr_flex",
                Field::NotMapped,
            ),
            ("cache_read_input_audio_token_cost", Field::NotMapped),
            ("input_dbu_cost_per_token", Field::NotMapped),
            ("off_peak_pricing", Field::NotMapped),
            ("output_cost_per_pixel", Field::NotMapped),
            ("input_cost_per_image_above_128k_tokens", Field::NotMapped),
            ("search_context_cost_per_query", Field::Searches),
            ("tiered_pricing", Field::Tiers),
            ("max_input_tokens", Field::NotMoney),
            ("supports_prompt_caching", Field::NotMoney),
        ];
        for (name, field) in cases {
            assert_eq!(read(name, "chat"), field, "{name}");
        }
        assert_eq!(
            read("input_cost_per_query", "rerank"),
            at(None, 0, Meter::Searches)
        );
        for (name, meter) in [
            ("input_cost_per_second", Meter::Seconds),
            ("input_cost_per_character", Meter::Characters),
            ("input_cost_per_query", Meter::Searches),
        ] {
            assert_eq!(read(name, STATED), at(None, 0, meter), "{name}");
        }
        assert_eq!(read("input_cost_per_query", "chat"), Field::NotMapped);
    }
}

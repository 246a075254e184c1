//! Answers that are not billed by tokens: images, speech, transcriptions, rerankings.

use schemas::{Meter, Meters};

use super::Reading;
use crate::endpoint::Endpoint;
use crate::json::{KEYS, number_at};
use crate::request::Units;

/// What an answer without a usage object in tokens is billed by; `None` for endpoints that count tokens.
///
/// `asked` bounds what was asked for; `seconds` is the guess where a transcription does not tell its own.
#[must_use]
pub fn by_units(endpoint: Endpoint, asked: Units, seconds: u64, body: &[u8]) -> Option<Reading> {
    let (meter, told, guess) = match endpoint {
        Endpoint::Moderations => return Some(Reading::default()),
        Endpoint::Images => (Meter::Images, Some(images(body)), asked.images),
        Endpoint::Speech => (Meter::Characters, Some(asked.characters), 0),
        Endpoint::Transcriptions | Endpoint::Translations => (
            Meter::Seconds,
            KEYS.seconds
                .first(body)
                .or_else(|| KEYS.duration.first(body))
                .and_then(|at| begun(number_at(body, at))),
            seconds,
        ),
        Endpoint::Rerank => (
            Meter::Searches,
            KEYS.search_units
                .first(body)
                .and_then(|at| begun(number_at(body, at))),
            asked.searches,
        ),
        Endpoint::Chat | Endpoint::Completions | Endpoint::Responses | Endpoint::Embeddings => {
            return None;
        }
    };
    let mut meters = Meters::default();
    let quantity = told.unwrap_or(guess);
    meters.add(meter, i64::try_from(quantity).unwrap_or(i64::MAX));
    Some(Reading {
        meters,
        estimated: told.is_none(),
        ..Reading::default()
    })
}

/// Images of an answer: each is a URL or its bytes.
fn images(body: &[u8]) -> u64 {
    let count = |key: &crate::json::Key| {
        let mut from = 0;
        std::iter::from_fn(|| {
            from = key.after(body, from)?;
            Some(())
        })
        .count() as u64
    };
    count(&KEYS.b64_json).max(count(&KEYS.url))
}

/// A decimal number rounded up: a second that has begun is billed.
fn begun(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    fraction
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| whole + u64::from(fraction.bytes().any(|digit| digit != b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Endpoint, body: &str) -> (i64, bool) {
        let asked = Units {
            images: 2,
            seconds: 9_000,
            characters: 11,
            searches: 3,
        };
        let reading = by_units(endpoint, asked, 60, body.as_bytes()).unwrap();
        (reading.meters.0[0].quantity, reading.estimated)
    }

    #[test]
    fn answers_tell_their_units_or_are_estimated() {
        let table = [
            (
                Endpoint::Images,
                r#"{"data":[{"url":"a"},{"url":"b"}]}"#,
                (2, false),
            ),
            (
                Endpoint::Images,
                r#"{"data":[{"b64_json":"QQ=="}]}"#,
                (1, false),
            ),
            (Endpoint::Speech, "ID3", (11, false)),
            (
                Endpoint::Transcriptions,
                r#"{"text":"x","usage":{"type":"duration","seconds":7}}"#,
                (7, false),
            ),
            (
                Endpoint::Transcriptions,
                r#"{"task":"transcribe","duration":7.01,"text":"x"}"#,
                (8, false),
            ),
            (Endpoint::Translations, "1\n00:00:00,000 --> x", (60, true)),
            (
                Endpoint::Rerank,
                r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#,
                (1, false),
            ),
            (Endpoint::Rerank, r#"{"results":[]}"#, (3, true)),
        ];
        for (endpoint, body, wanted) in table {
            assert_eq!(read(endpoint, body), wanted, "{body}");
        }
        assert_eq!(begun("7.000"), Some(7));
        assert_eq!(begun("1e3"), None);
    }
}

//! From a provider's usage object to disjoint meters, and the estimate where there is none.
//!
//! OpenAI counts cached and audio tokens inside `prompt_tokens`, reasoning and audio inside
//! `completion_tokens`. Field names: <https://platform.openai.com/docs/api-reference/chat/object>,
//! DeepSeek: <https://api-docs.deepseek.com/api/create-chat-completion>.

use schemas::{Meter, Meters};

use crate::json::{self, Member, Members};

/// Bytes of text that make about one token, for estimates only; never for a bound.
const BYTES_PER_TOKEN: u64 = 4;

/// Usage as we bill it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub meters: Meters,
    /// Counted by us, since the provider did not say.
    pub estimated: bool,
    /// The provider's totals disagree with the sum of its parts.
    pub mismatch: bool,
    /// The usage object as it came.
    pub raw: Vec<u8>,
}

/// The counts of a usage object, as told; absent is `None`.
#[derive(Default)]
struct Counts {
    prompt: Option<i64>,
    completion: Option<i64>,
    total: Option<i64>,
    cached: Option<i64>,
    cache_write: Option<i64>,
    audio_in: Option<i64>,
    image_in: Option<i64>,
    video_in: Option<i64>,
    reasoning: Option<i64>,
    audio_out: Option<i64>,
    image_out: Option<i64>,
    /// A count that is no whole number.
    odd: bool,
}

impl Counts {
    fn read(raw: &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        let mut cache_hit = None;
        for member in Members::of(raw).ok()? {
            let Member { name, value, .. } = member.ok()?;
            match name {
                b"prompt_tokens" => counts.prompt = counts.count(value),
                b"completion_tokens" => counts.completion = counts.count(value),
                b"total_tokens" => counts.total = counts.count(value),
                // DeepSeek's; it may stand beside `prompt_tokens_details` and then says the same.
                b"prompt_cache_hit_tokens" => cache_hit = counts.count(value),
                b"prompt_tokens_details" => counts.details(value, Self::prompt_detail)?,
                b"completion_tokens_details" => counts.details(value, Self::completion_detail)?,
                _ => {}
            }
        }
        counts.cached = counts.cached.or(cache_hit);
        Some(counts)
    }

    fn details(&mut self, value: &[u8], of: fn(&mut Self, &[u8], Option<i64>)) -> Option<()> {
        if value == b"null" {
            return Some(());
        }
        for member in Members::of(value).ok()? {
            let Member { name, value, .. } = member.ok()?;
            let count = self.count(value);
            of(self, name, count);
        }
        Some(())
    }

    fn prompt_detail(&mut self, name: &[u8], count: Option<i64>) {
        match name {
            b"cached_tokens" => self.cached = count,
            b"cache_creation_tokens" | b"cache_write_tokens" => self.cache_write = count,
            b"audio_tokens" => self.audio_in = count,
            b"image_tokens" => self.image_in = count,
            b"video_tokens" => self.video_in = count,
            _ => {}
        }
    }

    fn completion_detail(&mut self, name: &[u8], count: Option<i64>) {
        match name {
            b"reasoning_tokens" => self.reasoning = count,
            b"audio_tokens" => self.audio_out = count,
            b"image_tokens" => self.image_out = count,
            _ => {}
        }
    }

    fn count(&mut self, value: &[u8]) -> Option<i64> {
        let count = json::integer(value);
        // Other values than numbers may stand among details.
        self.odd |= count.is_none()
            && value
                .first()
                .is_some_and(|b| b.is_ascii_digit() || *b == b'-');
        count
    }
}

impl Reading {
    /// Reads an object of OpenAI's shape; `None` when it is not one or counts nothing.
    #[must_use]
    pub fn openai(raw: &[u8]) -> Option<Self> {
        let counts = Counts::read(raw)?;
        if counts.prompt.is_none() && counts.completion.is_none() {
            return None;
        }
        let mut reading = Self {
            raw: raw.to_vec(),
            mismatch: counts.odd,
            ..Self::default()
        };
        let prompt = reading.natural(counts.prompt);
        let completion = reading.natural(counts.completion);
        let reasoning = reading.natural(counts.reasoning);
        reading.split(
            prompt,
            Meter::InputText,
            [
                (Meter::InputCacheRead, counts.cached),
                (Meter::InputCacheWrite5m, counts.cache_write),
                (Meter::InputAudio, counts.audio_in),
                (Meter::InputImage, counts.image_in),
                (Meter::InputVideo, counts.video_in),
            ],
        );
        let spoken = [
            (Meter::OutputAudio, counts.audio_out),
            (Meter::OutputImage, counts.image_out),
        ];
        let told = counts.total.unwrap_or(prompt + completion);
        // xAI and Gemini count reasoning beside `completion_tokens`: their total says so.
        if reasoning > 0 && told == prompt + completion + reasoning {
            reading.meters.add(Meter::OutputReasoning, reasoning);
            reading.split(completion, Meter::OutputText, spoken);
        } else {
            reading.mismatch |= told != prompt + completion;
            let [audio, image] = spoken;
            reading.split(
                completion,
                Meter::OutputText,
                [(Meter::OutputReasoning, Some(reasoning)), audio, image],
            );
        }
        Some(reading)
    }

    /// What a call probably used, where nobody said: from what was sent and what came back.
    #[must_use]
    pub fn estimate(input_tokens: u64, output_tokens: u64) -> Self {
        let mut meters = Meters::default();
        meters.add(
            Meter::InputText,
            i64::try_from(input_tokens).unwrap_or(i64::MAX),
        );
        meters.add(
            Meter::OutputText,
            i64::try_from(output_tokens).unwrap_or(i64::MAX),
        );
        Self {
            meters,
            estimated: true,
            ..Self::default()
        }
    }

    /// Books the parts of a whole on their own meters, and the rest on `rest`.
    fn split<const N: usize>(&mut self, whole: i64, rest: Meter, parts: [(Meter, Option<i64>); N]) {
        let mut left = whole;
        for (meter, part) in parts {
            let part = self.natural(part);
            // A part larger than what is left of its whole: the whole is what is billed.
            let booked = part.min(left);
            self.mismatch |= booked != part;
            self.meters.add(meter, booked);
            left -= booked;
        }
        self.meters.add(rest, left);
    }

    fn natural(&mut self, count: Option<i64>) -> i64 {
        let count = count.unwrap_or(0);
        self.mismatch |= count < 0;
        // Sums of a few such counts cannot overflow.
        count.clamp(0, i64::MAX / 16)
    }
}

/// Tokens that a text of so many bytes probably has.
#[must_use]
pub const fn tokens_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(&'static str, i64)>, bool) {
        let reading = Reading::openai(text.as_bytes()).unwrap();
        let mut meters: Vec<_> = reading
            .meters
            .0
            .iter()
            .map(|q| (q.meter.name(), q.quantity))
            .collect();
        meters.sort_unstable();
        (meters, reading.mismatch)
    }

    #[test]
    fn every_shape_becomes_disjoint_meters() {
        let table: &[(&str, &[(&str, i64)], bool)] = &[
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#,
                &[("input_text", 10), ("output_text", 5)],
                false,
            ),
            (
                r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                    "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":10},
                    "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":5,"accepted_prediction_tokens":1}}"#,
                &[
                    ("input_audio", 10),
                    ("input_cache_read", 60),
                    ("input_text", 30),
                    ("output_audio", 5),
                    ("output_reasoning", 20),
                    ("output_text", 25),
                ],
                false,
            ),
            (
                r#"{"prompt_tokens":16,"completion_tokens":2,"total_tokens":18,
                    "prompt_cache_hit_tokens":12,"prompt_cache_miss_tokens":4}"#,
                &[
                    ("input_cache_read", 12),
                    ("input_text", 4),
                    ("output_text", 2),
                ],
                false,
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":35,
                    "completion_tokens_details":{"reasoning_tokens":20}}"#,
                &[
                    ("input_text", 10),
                    ("output_reasoning", 20),
                    ("output_text", 5),
                ],
                false,
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":99}"#,
                &[("input_text", 10), ("output_text", 5)],
                true,
            ),
            (
                r#"{"prompt_tokens":10,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":11}}"#,
                &[("input_cache_read", 10)],
                true,
            ),
            (
                r#"{"prompt_tokens":-1,"completion_tokens":3,"prompt_tokens_details":null}"#,
                &[("output_text", 3)],
                true,
            ),
        ];
        for (text, meters, mismatch) in table {
            let (mut wanted, found) = (meters.to_vec(), read(text));
            wanted.sort_unstable();
            assert_eq!(found, (wanted, *mismatch), "{text}");
        }
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        assert_eq!(Reading::openai(b"{}"), None);
        assert_eq!(Reading::openai(b"null"), None);
        assert_eq!(Reading::openai(b"[1,2]"), None);
        assert_eq!(Reading::openai(b"{\"prompt_tokens\":\"many\"}"), None);
    }
}

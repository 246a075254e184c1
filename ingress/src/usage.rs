//! From a provider's usage object to disjoint meters, and the estimate where there is none. What is not
//! counted in tokens: [`units`].
//!
//! OpenAI counts cached and audio tokens inside `prompt_tokens`, reasoning and audio inside
//! `completion_tokens`. Field names: <https://platform.openai.com/docs/api-reference/chat/object>,
//! DeepSeek: <https://api-docs.deepseek.com/api/create-chat-completion>.

mod units;

use schemas::{Meter, Meters};

pub use units::by_units;

use crate::json;

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
    /// Of `cache_write`, what is kept for an hour.
    cache_write_1h: Option<i64>,
    audio_in: Option<i64>,
    image_in: Option<i64>,
    video_in: Option<i64>,
    reasoning: Option<i64>,
    audio_out: Option<i64>,
    image_out: Option<i64>,
    /// A count that is no whole number.
    odd: bool,
}

/// Which object of a usage object a count stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Prompt,
    Completion,
    /// Inside of the prompt's: how long what was written is kept.
    CacheWrite,
    Other,
}

impl Counts {
    /// Reads an object that begins at the front of `data`; what follows it is not looked at. Also says
    /// how long it is.
    fn read(data: &[u8]) -> Option<(Self, usize)> {
        let mut counts = Self::default();
        let mut cache_hit = None;
        let (mut part, mut depth) = (Part::Whole, 0_u32);
        // What the object that holds the innermost one is: it goes on after that has ended.
        let mut around = Part::Other;
        let mut at = 0;
        loop {
            match data.get(at)? {
                b'"' => {
                    let (name, after) = json::string_at(data, at)?;
                    let Some(value) = json::value_behind(data, after) else {
                        // A text, not a key.
                        at = after;
                        continue;
                    };
                    at = value;
                    match data.get(at)? {
                        b'{' if depth == 1 => {
                            part = match name {
                                b"prompt_tokens_details"
                                | b"input_tokens_details"
                                | b"input_token_details" => Part::Prompt,
                                b"completion_tokens_details" | b"output_tokens_details" => {
                                    Part::Completion
                                }
                                _ => Part::Other,
                            };
                        }
                        b'{' if depth == 2 => {
                            around = part;
                            part = match (part, name) {
                                (
                                    Part::Prompt,
                                    b"cache_creation_token_details" | b"cache_creation",
                                ) => Part::CacheWrite,
                                _ => Part::Other,
                            };
                        }
                        b'[' if depth == 2 => (around, part) = (part, Part::Other),
                        b'0'..=b'9' | b'-' => {
                            let (count, after) = json::integer_at(data, at);
                            at = after;
                            counts.odd |= count.is_none() && part != Part::Other;
                            counts.book(part, name, count, &mut cache_hit);
                        }
                        _ => {}
                    }
                }
                opening @ (b'{' | b'[') => {
                    if depth == 0 && *opening == b'[' {
                        return None;
                    }
                    depth += 1;
                    match depth {
                        // What stands in a list has no name that would say what it is.
                        2 if *opening == b'[' => (part, around) = (Part::Other, Part::Other),
                        0..=3 => {}
                        _ => part = Part::Other,
                    }
                    at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    at += 1;
                    if depth == 0 {
                        counts.cached = counts.cached.or(cache_hit);
                        return Some((counts, at));
                    }
                    match depth {
                        1 => part = Part::Whole,
                        2 => part = around,
                        _ => {}
                    }
                }
                _ if depth == 0 => return None,
                _ => at += 1,
            }
        }
    }

    fn book(&mut self, part: Part, name: &[u8], count: Option<i64>, cache_hit: &mut Option<i64>) {
        let place = match (part, name) {
            // The second names are those of responses, images and transcriptions.
            (Part::Whole, b"prompt_tokens" | b"input_tokens") => &mut self.prompt,
            (Part::Whole, b"completion_tokens" | b"output_tokens") => &mut self.completion,
            (Part::Whole, b"total_tokens") => &mut self.total,
            // DeepSeek's, and Moonshot's; it may stand beside `prompt_tokens_details` and then says the same.
            (Part::Whole, b"prompt_cache_hit_tokens" | b"cached_tokens") => cache_hit,
            (Part::Prompt, b"cached_tokens") => &mut self.cached,
            (
                Part::Prompt,
                b"cache_creation_tokens" | b"cache_write_tokens" | b"cache_creation_input_tokens",
            ) => &mut self.cache_write,
            (Part::CacheWrite, b"ephemeral_1h_input_tokens") => &mut self.cache_write_1h,
            (Part::Prompt, b"audio_tokens") => &mut self.audio_in,
            (Part::Prompt, b"image_tokens") => &mut self.image_in,
            (Part::Prompt, b"video_tokens") => &mut self.video_in,
            (Part::Completion, b"reasoning_tokens") => &mut self.reasoning,
            (Part::Completion, b"audio_tokens") => &mut self.audio_out,
            (Part::Completion, b"image_tokens") => &mut self.image_out,
            _ => return,
        };
        *place = count;
    }
}

impl Reading {
    /// Reads an object of OpenAI's shape at the front of `data`; `None` when there is none or it counts
    /// nothing.
    #[must_use]
    pub fn openai(data: &[u8]) -> Option<Self> {
        let (counts, length) = Counts::read(data)?;
        let counts = match counts {
            // Embeddings and rerankings of some providers: all of it is what was sent.
            Counts {
                prompt: None,
                completion: None,
                total: Some(total),
                ..
            } => Counts {
                prompt: Some(total),
                ..counts
            },
            Counts {
                prompt: None,
                completion: None,
                ..
            } => return None,
            counts => counts,
        };
        let mut reading = Self {
            raw: data[..length].to_vec(),
            mismatch: counts.odd,
            ..Self::default()
        };
        let prompt = reading.natural(counts.prompt);
        let completion = reading.natural(counts.completion);
        let reasoning = reading.natural(counts.reasoning);
        let hour = reading.natural(counts.cache_write_1h);
        let written = reading.natural(counts.cache_write).max(hour);
        reading.split(
            prompt,
            Meter::InputText,
            [
                (Meter::InputCacheRead, counts.cached),
                (Meter::InputCacheWrite1h, Some(hour)),
                (Meter::InputCacheWrite5m, Some(written - hour)),
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
        type Case = (&'static str, &'static [(&'static str, i64)], bool);
        let table: &[Case] = &[
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
                r#"{"prompt_tokens":100,"completion_tokens":1,"total_tokens":101,"prompt_tokens_details":{
                    "text_tokens":40,"cache_creation_tokens":30,
                    "cache_creation_token_details":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":10},
                    "by_modality":[{"cached_tokens":9}],"deep":{"er":{"cached_tokens":8}},
                    "cached_tokens":25}, "list":[{"a":1},{"cached_tokens":7,"total_tokens":6}], "completion_tokens_details":{"x":{"y":1},"reasoning_tokens":1}}"#,
                &[
                    ("input_cache_read", 25),
                    ("input_cache_write_1h", 10),
                    ("input_cache_write_5m", 20),
                    ("input_text", 45),
                    ("output_reasoning", 1),
                ],
                false,
            ),
            (
                r#"{"prompt_tokens":16,"completion_tokens":2,"total_tokens":18,"cached_tokens":12}"#,
                &[
                    ("input_cache_read", 12),
                    ("input_text", 4),
                    ("output_text", 2),
                ],
                false,
            ),
            (r#"{"total_tokens":815}"#, &[("input_text", 815)], false),
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
    fn only_the_object_is_read_and_kept() {
        let reading = Reading::openai(
            b"{\"prompt_tokens\": 3, \"x\": [{\"prompt_tokens\": 9}], \"y\": \"}\"} , \"z\":1}",
        )
        .unwrap();
        assert_eq!(reading.meters.input_tokens(), 3);
        assert!(reading.raw.ends_with(b"\"}\"}"));
        assert_eq!(Reading::openai(b"{\"prompt_tokens\":3"), None);
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        assert_eq!(Reading::openai(b"{}"), None);
        assert_eq!(Reading::openai(b"null"), None);
        assert_eq!(Reading::openai(b"[1,2]"), None);
        assert_eq!(Reading::openai(b"{\"prompt_tokens\":\"many\"}"), None);
    }
}

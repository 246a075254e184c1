//! What a request can use at most on meters that are not tokens of text, and what its input probably has.

use memchr::memmem;
use serde_json::value::RawValue;

use super::ModelRequest;
use super::fields::{Fields, wrong_type};
use crate::Error;
use crate::endpoint::Endpoint;
use crate::json::KEYS;
use crate::usage::tokens_of_bytes;

/// The lowest rate at which speech is stored, bytes a second: Opus at 6 kbit/s.
pub(super) const SPEECH_BYTES_MIN: u64 = 750;

/// The usual one: 64 kbit/s.
const SPEECH_BYTES: u64 = 8_000;

/// Tokens of a second of speech. <https://platform.openai.com/docs/guides/realtime-costs>
const SPEECH_TOKENS: u64 = 10;

/// Documents that one search of a reranker covers. <https://cohere.com/pricing>
const DOCUMENTS_PER_SEARCH: u64 = 100;

/// Upper bounds of what stands in the messages beside text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attachments {
    pub images: u64,
    pub files: u64,
}

/// What a request can use at most on meters that are not tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Units {
    pub images: u64,
    pub seconds: u64,
    pub characters: u64,
    pub searches: u64,
}

impl ModelRequest {
    /// Tokens that the input probably has.
    #[must_use]
    pub fn input_estimate(&self) -> u64 {
        if self.form.is_some() {
            return self.speech_estimate() * SPEECH_TOKENS;
        }
        tokens_of_bytes(self.body.len() as u64)
    }

    /// Seconds that the speech of a form probably has.
    #[must_use]
    pub fn speech_estimate(&self) -> u64 {
        self.units.seconds * SPEECH_BYTES_MIN / SPEECH_BYTES
    }
}

impl Units {
    pub(super) fn of(endpoint: Endpoint, fields: &Fields<'_>, choices: u32) -> Result<Self, Error> {
        let mut units = Self::default();
        match endpoint {
            Endpoint::Images => units.images = u64::from(choices),
            Endpoint::Speech => {
                let text = fields.input.text().unwrap_or_default();
                let input: String = serde_json::from_str(text)
                    .map_err(|_| wrong_type("input", "a string", text))?;
                units.characters = input.chars().count() as u64;
            }
            Endpoint::Rerank => {
                let text = fields.documents.text().unwrap_or_default();
                let documents: Vec<&RawValue> = serde_json::from_str(text)
                    .map_err(|_| wrong_type("documents", "an array", text))?;
                units.searches = (documents.len() as u64)
                    .div_ceil(DOCUMENTS_PER_SEARCH)
                    .max(1);
            }
            _ => {}
        }
        Ok(units)
    }
}

/// Counts keys that carry an attachment; a text that merely holds such a word between quotes has
/// them escaped, so it is never counted, and one part may count twice: these are upper bounds.
pub(super) fn attachments(messages: &[u8]) -> Attachments {
    let count = |needle: &[u8]| memmem::find_iter(messages, needle).count() as u64;
    // Most requests hold none of them: one pass finds that out.
    if KEYS.kind.first(messages).is_none() {
        return Attachments::default();
    }
    Attachments {
        images: count(b"\"image_url\"") + count(b"\"input_image\"") + count(b"\"image\""),
        files: count(b"\"file\"") + count(b"\"video_url\"") + count(b"\"input_file\""),
    }
}

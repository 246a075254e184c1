//! The members of a body as they stand, and the judging of those that the gateway uses: a refusal names the
//! member. Never looks at a member that only the provider understands.

use schemas::Text;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Error;

/// A field as it stands in the body; a `null` is told apart from an absent field.
#[derive(Default, Clone, Copy)]
pub(super) struct Field<'a>(pub(super) Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

impl<'a> Field<'a> {
    /// The text of a value that is not `null`.
    pub(super) fn text(self) -> Option<&'a str> {
        self.0.map(RawValue::get).filter(|text| *text != "null")
    }
}

#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow, default)]
    pub(super) model: Field<'a>,
    #[serde(borrow, default)]
    pub(super) messages: Field<'a>,
    #[serde(borrow, default)]
    pub(super) prompt: Field<'a>,
    #[serde(borrow, default)]
    pub(super) input: Field<'a>,
    #[serde(borrow, default)]
    pub(super) query: Field<'a>,
    #[serde(borrow, default)]
    pub(super) documents: Field<'a>,
    #[serde(borrow, default)]
    pub(super) stream: Field<'a>,
    #[serde(borrow, default)]
    pub(super) stream_format: Field<'a>,
    #[serde(borrow, default)]
    pub(super) stream_options: Field<'a>,
    #[serde(borrow, default)]
    pub(super) max_tokens: Field<'a>,
    #[serde(borrow, default)]
    pub(super) max_completion_tokens: Field<'a>,
    #[serde(borrow, default)]
    pub(super) max_output_tokens: Field<'a>,
    #[serde(borrow, default)]
    pub(super) n: Field<'a>,
    #[serde(borrow, default)]
    pub(super) best_of: Field<'a>,
    #[serde(borrow, default)]
    pub(super) user: Field<'a>,
    #[serde(borrow, default)]
    pub(super) metadata: Field<'a>,
    #[serde(borrow, default)]
    pub(super) prediction: Field<'a>,
    #[serde(borrow, default)]
    pub(super) cache: Field<'a>,
    #[serde(borrow, default)]
    pub(super) num_retries: Field<'a>,
    #[serde(borrow, default)]
    pub(super) fallbacks: Field<'a>,
    #[serde(borrow, default)]
    pub(super) timeout: Field<'a>,
    #[serde(borrow, default)]
    pub(super) mock_response: Field<'a>,
    #[serde(borrow, default)]
    pub(super) drop_params: Field<'a>,
    #[serde(borrow, default)]
    pub(super) additional_drop_params: Field<'a>,
    #[serde(borrow, default)]
    pub(super) allowed_openai_params: Field<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Field<'a> {
        match name {
            "messages" => self.messages,
            "prompt" => self.prompt,
            "input" => self.input,
            "query" => self.query,
            "documents" => self.documents,
            "max_tokens" => self.max_tokens,
            "max_completion_tokens" => self.max_completion_tokens,
            "max_output_tokens" => self.max_output_tokens,
            _ => Field(None),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow, default)]
    tags: Field<'a>,
    #[serde(borrow, default)]
    spend_logs_metadata: Field<'a>,
}

#[derive(Deserialize)]
pub(super) struct StreamOptions {
    include_usage: Option<bool>,
}

pub(super) fn bad(param: &str, message: String) -> Error {
    Error::BadRequest {
        message,
        param: Some(param.to_owned()),
    }
}

pub(super) fn wrong_type(param: &str, wanted: &str, got: &str) -> Error {
    let mut shown: String = got.chars().take(40).collect();
    if shown.len() < got.len() {
        shown.push('…');
    }
    bad(
        param,
        format!("invalid type for '{param}': expected {wanted}, got {shown}"),
    )
}

pub(super) fn missing(name: &str) -> Error {
    bad(name, format!("missing required parameter: '{name}'"))
}

pub(super) fn choices(name: &str, field: Field<'_>) -> Result<u32, Error> {
    match count(name, field)? {
        None => Ok(1),
        Some(n) => u32::try_from(n)
            .ok()
            .filter(|n| (1..=128).contains(n))
            .ok_or_else(|| bad(name, format!("'{name}' must be from 1 to 128, got {n}"))),
    }
}

pub(super) fn malformed(error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let duplicate = text
        .strip_prefix("duplicate field `")
        .and_then(|rest| rest.split('`').next());
    let message = match duplicate {
        Some(field) => format!(
            "'{field}' stands twice in the request body (line {} column {})",
            error.line(),
            error.column()
        ),
        None if error.is_data() => {
            let text = text.replace(", expected struct Fields", "");
            format!("the request body must be a JSON object: {text}")
        }
        None => format!("the request body is not valid JSON: {text}"),
    };
    Error::BadRequest {
        message,
        param: duplicate.map(str::to_owned),
    }
}

pub(super) fn flag(name: &str, field: Field<'_>) -> Result<bool, Error> {
    match field.text() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(wrong_type(name, "a boolean", other)),
    }
}

pub(super) fn count(name: &str, field: Field<'_>) -> Result<Option<u64>, Error> {
    let Some(text) = field.text() else {
        return Ok(None);
    };
    match text.parse() {
        Ok(0) if !matches!(name, "n" | "best_of") => {
            Err(bad(name, format!("'{name}' must be at least 1")))
        }
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(wrong_type(name, "a positive integer", text)),
    }
}

pub(super) fn include_usage(field: Field<'_>) -> Result<bool, Error> {
    let Some(text) = field.text() else {
        return Ok(false);
    };
    let options: StreamOptions = serde_json::from_str(text)
        .map_err(|_| wrong_type("stream_options", "an object with booleans", text))?;
    Ok(options.include_usage == Some(true))
}

/// Of `metadata`, which belongs to the provider too, what is ours: its tags and where they stand, and what the
/// caller wants in its logs. What has another shape than ours is left alone.
pub(super) fn ours(metadata: &str) -> (Vec<Text>, Option<&str>, Option<&str>) {
    let Ok(found) = serde_json::from_str::<Metadata<'_>>(metadata) else {
        return (Vec::new(), None, None);
    };
    let logged = found.spend_logs_metadata.text();
    let logged = logged.filter(|text| text.starts_with('{'));
    let list = found.tags.text().and_then(|raw| {
        let list = serde_json::from_str::<Vec<String>>(raw).ok()?;
        Some((list.into_iter().map(Text::from).collect(), raw))
    });
    match list {
        Some((tags, raw)) => (tags, Some(raw), logged),
        None => (Vec::new(), None, logged),
    }
}

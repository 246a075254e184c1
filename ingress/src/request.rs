//! What the gateway needs to know of a request to a model, read in one pass over the body. Never builds a
//! JSON tree, never judges fields that it does not use: those reach the provider untouched.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use memchr::memmem;
use schemas::Text;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::endpoint::Endpoint;
use crate::json::KEYS;
use crate::usage::tokens_of_bytes;
use crate::{Error, form};

/// The lowest rate at which speech is stored, bytes a second: Opus at 6 kbit/s.
const SPEECH_BYTES_MIN: u64 = 750;
/// The usual one: 64 kbit/s.
const SPEECH_BYTES: u64 = 8_000;
/// Tokens of a second of speech. <https://platform.openai.com/docs/guides/realtime-costs>
const SPEECH_TOKENS: u64 = 10;
/// Documents that one search of a reranker covers. <https://cohere.com/pricing>
const DOCUMENTS_PER_SEARCH: u64 = 100;

/// A request to a model, with the places in the body where it may have to be edited.
#[derive(Debug)]
pub struct ModelRequest {
    pub endpoint: Endpoint,
    pub body: Bytes,
    pub model: Text,
    /// The value of `model`, quotes included; none when the path named the model.
    pub model_at: Option<Range<usize>>,
    /// Content type of a body that is a form.
    pub form: Option<HeaderValue>,
    pub units: Units,
    pub stream: bool,
    /// The client asked for usage on its stream.
    pub include_usage: bool,
    /// Value of `stream_options`, if it stands in the body.
    pub stream_options_at: Option<Range<usize>>,
    /// The largest of [`Endpoint::caps`].
    pub output_cap: Option<u64>,
    /// Values of them that are `null`, in their order.
    pub null_caps: [Option<Range<usize>>; 2],
    /// `n`, at least 1.
    pub choices: u32,
    pub end_user: Option<Text>,
    /// `metadata.tags`.
    pub tags: Vec<Text>,
    /// Members that are meant for the gateway and stay here: `cache`, `metadata.tags`.
    pub ours: Vec<Range<usize>>,
    /// Value of `cache`.
    pub cache_at: Option<Range<usize>>,
    /// At most so many images, sounds and files are referred to.
    pub attachments: Attachments,
    /// `num_retries`, `fallbacks` and `timeout` (seconds), which LiteLLM's clients send in the body.
    pub num_retries: Option<u32>,
    pub fallbacks: Option<Vec<String>>,
    pub timeout: Option<f64>,
    /// `mock_response`: the answer, without asking anybody.
    pub mock: Option<String>,
    /// `metadata.spend_logs_metadata`, as it stands.
    pub logged: Option<Text>,
    /// `drop_params` and its like, where a request has them.
    pub rules: Option<Box<OwnRules>>,
    /// `prediction` is set: rejected predicted tokens are billed as output.
    pub predicts: bool,
    /// Offset just behind the opening brace.
    pub first_member: usize,
}

/// What a request says of parameters that a provider cannot take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnRules {
    /// `drop_params`.
    pub drop: Option<bool>,
    /// `additional_drop_params`.
    pub also_drop: Vec<String>,
    /// `allowed_openai_params`.
    pub allow: Vec<String>,
}

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

/// A field as it stands in the body; a `null` is told apart from an absent field.
#[derive(Default, Clone, Copy)]
struct Field<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

impl<'a> Field<'a> {
    /// The text of a value that is not `null`.
    fn text(self) -> Option<&'a str> {
        self.0.map(RawValue::get).filter(|text| *text != "null")
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
    #[serde(borrow, default)]
    messages: Field<'a>,
    #[serde(borrow, default)]
    prompt: Field<'a>,
    #[serde(borrow, default)]
    input: Field<'a>,
    #[serde(borrow, default)]
    query: Field<'a>,
    #[serde(borrow, default)]
    documents: Field<'a>,
    #[serde(borrow, default)]
    stream: Field<'a>,
    #[serde(borrow, default)]
    stream_options: Field<'a>,
    #[serde(borrow, default)]
    max_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_completion_tokens: Field<'a>,
    #[serde(borrow, default)]
    max_output_tokens: Field<'a>,
    #[serde(borrow, default)]
    n: Field<'a>,
    #[serde(borrow, default)]
    best_of: Field<'a>,
    #[serde(borrow, default)]
    user: Field<'a>,
    #[serde(borrow, default)]
    metadata: Field<'a>,
    #[serde(borrow, default)]
    prediction: Field<'a>,
    #[serde(borrow, default)]
    cache: Field<'a>,
    #[serde(borrow, default)]
    num_retries: Field<'a>,
    #[serde(borrow, default)]
    fallbacks: Field<'a>,
    #[serde(borrow, default)]
    timeout: Field<'a>,
    #[serde(borrow, default)]
    mock_response: Field<'a>,
    #[serde(borrow, default)]
    drop_params: Field<'a>,
    #[serde(borrow, default)]
    additional_drop_params: Field<'a>,
    #[serde(borrow, default)]
    allowed_openai_params: Field<'a>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Field<'a> {
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
struct Metadata<'a> {
    #[serde(borrow, default)]
    tags: Field<'a>,
    #[serde(borrow, default)]
    spend_logs_metadata: Field<'a>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

fn bad(param: &str, message: String) -> Error {
    Error::BadRequest {
        message,
        param: Some(param.to_owned()),
    }
}

fn wrong_type(param: &str, wanted: &str, got: &str) -> Error {
    let mut shown: String = got.chars().take(40).collect();
    if shown.len() < got.len() {
        shown.push('…');
    }
    bad(
        param,
        format!("invalid type for '{param}': expected {wanted}, got {shown}"),
    )
}

impl ModelRequest {
    /// Reads a body. `named` is the model that the path names.
    ///
    /// # Errors
    /// [`Error::BadRequest`] names the field, or the line and column of malformed JSON.
    pub fn parse(endpoint: Endpoint, body: Bytes, named: Option<Text>) -> Result<Self, Error> {
        if body.is_empty() {
            let members = std::iter::once(&"model").chain(endpoint.required());
            let members: Vec<String> = members.map(|name| format!("'{name}'")).collect();
            return Err(Error::BadRequest {
                message: format!(
                    "the request body is empty: expected a JSON object with {}",
                    members.join(" and ")
                ),
                param: None,
            });
        }
        // Only white space may precede the brace. A list would be read as the fields in their order.
        let brace = body
            .iter()
            .position(|b| !b.is_ascii_whitespace())
            .unwrap_or(0);
        let fields: Fields<'_> = serde_json::from_slice(&body).map_err(|e| malformed(&e))?;
        if body[brace] != b'{' {
            return Err(Error::BadRequest {
                message: "the request body must be a JSON object".to_owned(),
                param: None,
            });
        }
        let at = |raw: &str| -> Range<usize> {
            let start = raw.as_ptr() as usize - body.as_ptr() as usize;
            start..start + raw.len()
        };
        let model = match (fields.model.text(), named) {
            // Azure's form: what the body says is not looked at there either.
            (_, Some(named)) => named,
            (Some(text), None) => serde_json::from_str::<String>(text)
                .map_err(|_| wrong_type("model", "a string", text))?
                .into(),
            (None, None) => return Err(missing("model")),
        };
        if model.is_empty() {
            return Err(bad("model", "'model' is empty".to_owned()));
        }
        for name in endpoint.required() {
            let text = fields.get(name).text().ok_or_else(|| missing(name))?;
            if matches!(*name, "messages" | "documents") && !text.starts_with('[') {
                return Err(wrong_type(name, "an array of objects", text));
            }
        }
        let metadata = fields.metadata.text().filter(|text| text.starts_with('{'));
        let (tags, tags_at, logged) = metadata.map_or((Vec::new(), None, None), ours);
        let mock = match fields.mock_response.text() {
            Some(text) if endpoint == Endpoint::Chat => Some(
                serde_json::from_str(text)
                    .map_err(|_| wrong_type("mock_response", "a string", text))?,
            ),
            _ => None,
        };
        let mut output_cap = None;
        let mut null_caps = [None, None];
        for (name, null) in endpoint.caps().iter().zip(&mut null_caps) {
            let field = fields.get(name);
            output_cap = output_cap.max(count(name, field)?);
            *null = field.0.map(RawValue::get).filter(|t| *t == "null").map(at);
        }
        let choices = choices("n", fields.n)?.max(choices("best_of", fields.best_of)?);
        let end_user = match fields.user.text() {
            None => None,
            Some(text) => Some(
                serde_json::from_str::<String>(text)
                    .map_err(|_| wrong_type("user", "a string", text))?
                    .into(),
            ),
        };
        let content = match endpoint {
            Endpoint::Responses => fields.input,
            _ => fields.messages,
        };
        Ok(Self {
            units: Units::of(endpoint, &fields, choices)?,
            model,
            model_at: fields.model.0.map(|raw| at(raw.get())),
            form: None,
            stream: flag("stream", fields.stream)?,
            include_usage: include_usage(fields.stream_options)?,
            stream_options_at: fields.stream_options.0.map(|raw| at(raw.get())),
            output_cap,
            null_caps,
            choices,
            end_user: end_user.filter(|user: &Text| !user.is_empty()),
            tags,
            ours: [
                fields.cache.0.map(RawValue::get),
                tags_at,
                fields.num_retries.0.map(RawValue::get),
                fields.fallbacks.0.map(RawValue::get),
                fields.timeout.0.map(RawValue::get),
                fields.mock_response.0.map(RawValue::get),
                logged,
                fields.drop_params.0.map(RawValue::get),
                fields.additional_drop_params.0.map(RawValue::get),
                fields.allowed_openai_params.0.map(RawValue::get),
            ]
            .into_iter()
            .flatten()
            .map(&at)
            .collect(),
            cache_at: fields.cache.text().map(&at),
            attachments: attachments(content.text().unwrap_or_default().as_bytes()),
            num_retries: match fields.num_retries.text() {
                None => None,
                Some(text) => Some(
                    text.parse()
                        .map_err(|_| wrong_type("num_retries", "a number of retries", text))?,
                ),
            },
            fallbacks: match fields.fallbacks.text() {
                None => None,
                Some(text) => Some(
                    serde_json::from_str(text)
                        .map_err(|_| wrong_type("fallbacks", "a list of model names", text))?,
                ),
            },
            timeout: match fields.timeout.text() {
                None => None,
                Some(text) => Some(
                    text.parse()
                        .ok()
                        .filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0)
                        .ok_or_else(|| wrong_type("timeout", "seconds above 0", text))?,
                ),
            },
            mock,
            logged: logged.map(Text::from),
            rules: OwnRules::of(&fields)?,
            predicts: fields.prediction.text().is_some(),
            first_member: brace + 1,
            endpoint,
            body,
        })
    }

    /// Reads a form. `named` is the model that the path names.
    ///
    /// # Errors
    /// [`Error::BadRequest`] names the field.
    pub fn parse_form(
        endpoint: Endpoint,
        body: Bytes,
        content_type: &HeaderValue,
        named: Option<Text>,
    ) -> Result<Self, Error> {
        let boundary = content_type.to_str().ok().and_then(form::boundary);
        let boundary = boundary.ok_or_else(|| Error::BadRequest {
            message: "expected a form: content-type multipart/form-data with its boundary"
                .to_owned(),
            param: None,
        })?;
        let parts = form::parts(&body, boundary).map_err(|why| Error::BadRequest {
            message: format!("the form in the request body is broken: {why}"),
            param: None,
        })?;
        let find = |name: &str| parts.iter().find(|part| part.name == name);
        let text = |name: &str| {
            let value = body.get(find(name)?.value.clone())?;
            std::str::from_utf8(value).ok().map(str::trim)
        };
        let model = match named {
            Some(named) => named,
            None => text("model")
                .filter(|model| !model.is_empty())
                .ok_or_else(|| missing("model"))?
                .into(),
        };
        let file = find("file").ok_or_else(|| missing("file"))?;
        Ok(Self {
            units: Units {
                seconds: (file.value.len() as u64).div_ceil(SPEECH_BYTES_MIN),
                ..Units::default()
            },
            model,
            model_at: find("model").map(|part| part.value.clone()),
            form: Some(content_type.clone()),
            stream: text("stream") == Some("true"),
            include_usage: false,
            stream_options_at: None,
            output_cap: None,
            null_caps: [None, None],
            choices: 1,
            end_user: text("user").filter(|user| !user.is_empty()).map(Text::from),
            tags: Vec::new(),
            ours: Vec::new(),
            cache_at: None,
            attachments: Attachments::default(),
            num_retries: None,
            fallbacks: None,
            timeout: None,
            mock: None,
            logged: None,
            rules: None,
            predicts: false,
            first_member: 0,
            endpoint,
            body: body.clone(),
        })
    }
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

impl OwnRules {
    fn of(fields: &Fields<'_>) -> Result<Option<Box<Self>>, Error> {
        let (drop, also, allow) = (
            fields.drop_params.text(),
            fields.additional_drop_params.text(),
            fields.allowed_openai_params.text(),
        );
        if drop.or(also).or(allow).is_none() {
            return Ok(None);
        }
        let names = |name: &str, text: Option<&str>| match text {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str(text)
                .map_err(|_| wrong_type(name, "a list of parameters", text)),
        };
        Ok(Some(Box::new(Self {
            drop: match drop {
                None => None,
                Some(_) => Some(flag("drop_params", fields.drop_params)?),
            },
            also_drop: names("additional_drop_params", also)?,
            allow: names("allowed_openai_params", allow)?,
        })))
    }
}

impl Units {
    fn of(endpoint: Endpoint, fields: &Fields<'_>, choices: u32) -> Result<Self, Error> {
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

fn missing(name: &str) -> Error {
    bad(name, format!("missing required parameter: '{name}'"))
}

fn choices(name: &str, field: Field<'_>) -> Result<u32, Error> {
    match count(name, field)? {
        None => Ok(1),
        Some(n) => u32::try_from(n)
            .ok()
            .filter(|n| (1..=128).contains(n))
            .ok_or_else(|| bad(name, format!("'{name}' must be from 1 to 128, got {n}"))),
    }
}

fn malformed(error: &serde_json::Error) -> Error {
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
        None if error.is_data() => format!("the request body must be a JSON object: {text}"),
        None => format!("the request body is not valid JSON: {text}"),
    };
    Error::BadRequest {
        message,
        param: duplicate.map(str::to_owned),
    }
}

fn flag(name: &str, field: Field<'_>) -> Result<bool, Error> {
    match field.text() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(wrong_type(name, "a boolean", other)),
    }
}

fn count(name: &str, field: Field<'_>) -> Result<Option<u64>, Error> {
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

fn include_usage(field: Field<'_>) -> Result<bool, Error> {
    let Some(text) = field.text() else {
        return Ok(false);
    };
    let options: StreamOptions = serde_json::from_str(text)
        .map_err(|_| wrong_type("stream_options", "an object with booleans", text))?;
    Ok(options.include_usage == Some(true))
}

/// Of `metadata`, which belongs to the provider too, what is ours: its tags and where they stand, and what the
/// caller wants in its logs. What has another shape than ours is left alone.
fn ours(metadata: &str) -> (Vec<Text>, Option<&str>, Option<&str>) {
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

/// Counts keys that carry an attachment; a text that merely holds such a word between quotes has
/// them escaped, so it is never counted, and one part may count twice: these are upper bounds.
fn attachments(messages: &[u8]) -> Attachments {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelRequest, Error> {
        ModelRequest::parse(
            Endpoint::Chat,
            Bytes::copy_from_slice(text.as_bytes()),
            None,
        )
    }

    #[test]
    fn reads_what_is_needed_and_where_it_stands() {
        let text = r#" {"model" : "gpt-4o", "messages":[{"role":"user","content":"hi"}], "stream":true,
            "stream_options":{"include_usage":true,"x":1}, "max_tokens":7, "max_completion_tokens":null, "n":2,
            "user":"eve", "metadata":{"tags":["a","b"],"k":"v"}, "cache":{"ttl":1}}"#;
        let request = parse(text).unwrap();
        assert_eq!(&*request.model, "gpt-4o");
        assert_eq!(&text[request.model_at.clone().unwrap()], "\"gpt-4o\"");
        assert!(request.stream && request.include_usage);
        assert_eq!((request.output_cap, request.choices), (Some(7), 2));
        assert_eq!(&text[request.null_caps[0].clone().unwrap()], "null");
        assert_eq!(request.end_user.as_deref(), Some("eve"));
        assert_eq!(request.tags.len(), 2);
        assert_eq!(request.ours.len(), 2);
        assert_eq!(&text[request.first_member - 1..request.first_member], "{");
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let table = [
            ("", None, "empty"),
            ("{\"model\":", None, "line 1 column 9"),
            ("[]", None, "must be a JSON object"),
            ("{}", Some("model"), "missing required parameter: 'model'"),
            (r#"{"model":"m"}"#, Some("messages"), "missing"),
            (
                r#"{"model":3,"messages":[]}"#,
                Some("model"),
                "expected a string, got 3",
            ),
            (
                r#"{"model":"m","messages":"x"}"#,
                Some("messages"),
                "expected an array",
            ),
            (
                r#"{"model":"m","messages":[],"stream":"yes"}"#,
                Some("stream"),
                "expected a boolean",
            ),
            (
                r#"{"model":"m","messages":[],"max_tokens":-1}"#,
                Some("max_tokens"),
                "positive integer",
            ),
            (
                r#"{"model":"m","messages":[],"n":0}"#,
                Some("n"),
                "from 1 to 128",
            ),
            (
                r#"{"model":"m","model":"n","messages":[]}"#,
                Some("model"),
                "stands twice",
            ),
        ];
        for (body, wanted_param, text) in table {
            match parse(body) {
                Err(Error::BadRequest { message, param }) => {
                    assert_eq!(param.as_deref(), wanted_param, "{body}");
                    assert!(message.contains(text), "{body}: {message}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn attachments_are_counted_from_above() {
        let request = parse(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}},
               {"type":"text","text":"say \"image_url\""}]}]}"#,
        )
        .unwrap();
        assert_eq!(
            request.attachments,
            Attachments {
                images: 2,
                files: 0
            }
        );
    }
}

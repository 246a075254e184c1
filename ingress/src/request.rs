//! What the gateway needs to know of a request to a model, read in one pass over the body. Never builds a
//! JSON tree, never judges fields that it does not use: those reach the provider untouched.

mod fields;
mod form;
mod units;

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use schemas::Text;
use serde_json::value::RawValue;

use crate::Error;
use crate::endpoint::Endpoint;

use fields::{
    Fields, bad, choices, count, flag, include_usage, malformed, missing, ours, wrong_type,
};
use units::attachments;
pub use units::{Attachments, Units};

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
            // Speech is told to come as events by another word.
            stream: (flag("stream", fields.stream)? && endpoint.streams())
                || (endpoint == Endpoint::Speech && fields.stream_format.text() == Some("\"sse\"")),
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
            (
                "null",
                None,
                "must be a JSON object: invalid type: null at line 1",
            ),
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

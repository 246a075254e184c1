//! A request that is a form: speech to be written down.

use bytes::Bytes;
use http::HeaderValue;
use schemas::Text;

use super::fields::missing;
use super::units::SPEECH_BYTES_MIN;
use super::{Attachments, ModelRequest, Units};
use crate::endpoint::Endpoint;
use crate::{Error, form};

impl ModelRequest {
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

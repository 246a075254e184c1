//! Providers that the file declares, and whose certificates are believed.

use crate::providers::{self, Quirk};
use crate::view::View;
use crate::{AuthScheme, Secret, Trust};

/// `tollgate.providers.NAME`.
pub(super) struct Own {
    pub name: String,
    pub base_url: String,
    pub path: Option<String>,
    pub key: Option<Secret>,
    auth: Auth,
    pub headers: Vec<(String, Secret)>,
    pub quirks: Vec<Quirk>,
    pub trust: Option<Trust>,
}

enum Auth {
    Bearer,
    Header { name: String, prefix: String },
    None,
}

impl Own {
    /// How a key travels. One in a header of its own is one of the headers.
    pub fn auth(
        &self,
        key: Option<Secret>,
        headers: &mut Vec<(String, Secret)>,
    ) -> (AuthScheme, Option<Secret>) {
        match (&self.auth, key) {
            (Auth::Bearer, Some(key)) => (AuthScheme::Bearer, Some(key)),
            (Auth::Header { name, prefix }, Some(key)) => {
                let value = Secret::new(format!("{prefix}{}", key.expose()));
                headers.push((name.clone(), value));
                (AuthScheme::None, None)
            }
            (Auth::None, _) | (_, None) => (AuthScheme::None, None),
        }
    }
}

/// The providers of the file.
pub(super) fn own(root: &View<'_>) -> Vec<Own> {
    let entries = root.get("tollgate.providers").entries();
    entries
        .iter()
        .filter_map(|(name, section)| one(name, section))
        .collect()
}

fn one(name: &str, section: &View<'_>) -> Option<Own> {
    if let Some(known) = providers::find(name) {
        section.error(format!(
            "is the prefix of {} already; choose another name",
            known.name
        ));
        return None;
    }
    if name.is_empty() || name.contains('/') {
        section.error("is no prefix: it stands before the first / of a model's name");
        return None;
    }
    let path = section.at("path");
    if path.text().is_some_and(|text| !text.starts_with('/')) {
        path.error("must begin with /");
    }
    let (word, header, prefix) = (
        section.at("auth"),
        section.at("auth_header"),
        section.at("auth_prefix"),
    );
    let auth = match word.text().map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("none") => Auth::None,
        Some("header") => {
            let name = header.text();
            if name
                .as_deref()
                .is_none_or(|name| !super::headers::is_token(name))
            {
                header.error("is required with auth: header, and must be a header name");
            }
            Auth::Header {
                name: name.unwrap_or_default().to_ascii_lowercase(),
                prefix: prefix
                    .text()
                    .map_or_else(String::new, |prefix| format!("{prefix} ")),
            }
        }
        _ => Auth::Bearer,
    };
    if !matches!(auth, Auth::Header { .. }) {
        for view in [header, prefix] {
            if view.is_set() {
                view.warn("has no effect without auth: header");
            }
        }
    }
    let quirks = section.at("quirks").texts();
    Some(Own {
        name: name.to_owned(),
        base_url: section.at("base_url").url()?,
        path: path.text(),
        key: section.at("api_key").secret(),
        auth,
        headers: super::headers::headers_of(&section.at("headers")),
        quirks: quirks
            .iter()
            .filter_map(|word| match word.to_ascii_lowercase().as_str() {
                "no_stream_options" => Some(Quirk::NoStreamOptions),
                "max_tokens_only" => Some(Quirk::MaxTokensOnly),
                "no_chat" => Some(Quirk::NoChat),
                _ => None,
            })
            .collect(),
        trust: trust(&section.at("ssl_verify")),
    })
}

/// Whose certificates are believed where neither a model nor its provider says so.
pub(super) fn default_trust(root: &View<'_>) -> Trust {
    let file = trust(&root.get("litellm_settings.ssl_verify"));
    let variable = || {
        let text = (root.context().env)("SSL_VERIFY").filter(|text| !text.trim().is_empty());
        text.map(|text| read_trust(&text))
    };
    file.or_else(variable).unwrap_or_default()
}

/// `ssl_verify`: true, false, or a file.
pub(super) fn trust(view: &View<'_>) -> Option<Trust> {
    let text = view.raw().filter(|text| !text.trim().is_empty())?;
    let trust = read_trust(&text);
    if trust == Trust::Anyone {
        view.warn(
            "certificates are not verified: whoever stands in between reads prompts and keys",
        );
    }
    Some(trust)
}

fn read_trust(text: &str) -> Trust {
    match crate::kind::parse_bool(text.trim()) {
        Some(true) => Trust::System,
        Some(false) => Trust::Anyone,
        None => Trust::File(text.trim().to_owned()),
    }
}

//! The endpoints of OpenAI's shape, a line of each table: where one lies, what its requests hold, and what
//! they can use at most. All are admitted, metered and billed as chat is.

/// What a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    /// The older form of it.
    Completions,
    Responses,
    Embeddings,
    Moderations,
    Images,
    Speech,
    Transcriptions,
    Translations,
    /// Cohere's and Jina's, as others serve it too.
    Rerank,
}

/// What a call makes that is billed as output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Text, as much as the request or the model allows.
    Text,
    /// Nothing that is counted in tokens.
    None,
    /// At most so many tokens for each choice.
    AtMost(u64),
    /// At most so many tokens for each character of the input.
    PerCharacter(u64),
}

impl Endpoint {
    const ALL: [Self; 10] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
        Self::Moderations,
        Self::Images,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::Rerank,
    ];

    /// Below a provider's base.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Responses => "/responses",
            Self::Embeddings => "/embeddings",
            Self::Moderations => "/moderations",
            Self::Images => "/images/generations",
            Self::Speech => "/audio/speech",
            Self::Transcriptions => "/audio/transcriptions",
            Self::Translations => "/audio/translations",
            Self::Rerank => "/rerank",
        }
    }

    /// What a path asks for, with and without `/v1`, as Azure has it (`/openai/v1/…`, `/openai/…`), and the model
    /// that Azure's form of it names (still percent-encoded), or OpenAI's oldest:
    /// `/openai/deployments/{model}/chat/completions`, `/engines/{model}/completions`.
    #[must_use]
    pub fn of(path: &str) -> Option<(Self, Option<&str>)> {
        let named = ["/openai/deployments/", "/engines/", "/v1/engines/"];
        if let Some(rest) = named.iter().find_map(|head| path.strip_prefix(head)) {
            // A model's name may hold a slash that nobody encoded. The longer paths come first in the list.
            return Self::ALL.into_iter().find_map(|endpoint| {
                let model = rest.strip_suffix(endpoint.path())?;
                (!model.is_empty() && !model.starts_with('/')).then_some((endpoint, Some(model)))
            });
        }
        let by_path = |path| Self::ALL.into_iter().find(|one| one.path() == path);
        let path = path.strip_prefix("/openai").unwrap_or(path);
        let rest = path
            .strip_prefix("/v1")
            .or_else(|| path.strip_prefix("/v2").filter(|rest| *rest == "/rerank"))
            .unwrap_or(path);
        by_path(rest).map(|endpoint| (endpoint, None))
    }

    /// Every path that asks for one, as [`Endpoint::of`] knows them, `{model}` for a name.
    pub fn paths() -> impl Iterator<Item = String> {
        let each = |one: Self| {
            let path = one.path();
            let again = (one == Self::Rerank).then(|| format!("/v2{path}"));
            let azure = format!("/openai/deployments/{{model}}{path}");
            let engines = format!("/engines/{{model}}{path}");
            let newer = format!("/openai/v1{path}");
            [format!("/v1{path}"), path.to_owned(), azure, newer, engines]
                .into_iter()
                .chain(again)
        };
        Self::ALL.into_iter().flat_map(each)
    }

    /// Members that a body must have beside `model`.
    #[must_use]
    pub const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["messages"],
            Self::Completions | Self::Images => &["prompt"],
            Self::Embeddings | Self::Moderations | Self::Speech => &["input"],
            Self::Rerank => &["query", "documents"],
            Self::Transcriptions | Self::Translations => &["file"],
            // A stored prompt or an earlier answer can stand in the place of an input.
            Self::Responses => &[],
        }
    }

    /// Whether requests are forms with a file.
    #[must_use]
    pub const fn is_form(self) -> bool {
        matches!(self, Self::Transcriptions | Self::Translations)
    }

    /// Whether an answer may be something else than a JSON object.
    #[must_use]
    pub const fn may_answer_text(self) -> bool {
        matches!(
            self,
            Self::Speech | Self::Transcriptions | Self::Translations
        )
    }

    /// Members that bound the output, the usual one last; none where an answer cannot be cut short.
    #[must_use]
    pub const fn caps(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["max_completion_tokens", "max_tokens"],
            Self::Completions => &["max_tokens"],
            Self::Responses => &["max_output_tokens"],
            _ => &[],
        }
    }

    /// Whether `stream_options.include_usage` has to be asked for.
    #[must_use]
    pub const fn has_stream_options(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    /// Whether a stream ends with `[DONE]`. Streams of the others end with an event that says so.
    #[must_use]
    pub const fn ends_with_done(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    /// Whether an answer can come in pieces. With the others providers do not look at `stream`.
    #[must_use]
    pub const fn streams(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Moderations | Self::Rerank)
    }

    #[must_use]
    pub const fn output(self) -> Output {
        match self {
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Transcriptions
            | Self::Translations => Output::Text,
            Self::Embeddings | Self::Moderations | Self::Rerank => Output::None,
            // gpt-image-1: 6,240 tokens for the largest image in high quality.
            // <https://platform.openai.com/docs/guides/image-generation>
            Self::Images => Output::AtMost(8_192),
            // gpt-4o-mini-tts: some 21 tokens a second of speech; nobody speaks slower than 2 characters
            // a second.
            Self::Speech => Output::PerCharacter(16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_every_form_are_known() {
        let table = [
            ("/v1/chat/completions", Some((Endpoint::Chat, None))),
            ("/chat/completions", Some((Endpoint::Chat, None))),
            ("/v1/embeddings", Some((Endpoint::Embeddings, None))),
            ("/v2/rerank", Some((Endpoint::Rerank, None))),
            (
                "/openai/deployments/my%20gpt/completions",
                Some((Endpoint::Completions, Some("my%20gpt"))),
            ),
            (
                "/openai/deployments/openai/gpt-4o/chat/completions",
                Some((Endpoint::Chat, Some("openai/gpt-4o"))),
            ),
            (
                "/engines/m/embeddings",
                Some((Endpoint::Embeddings, Some("m"))),
            ),
            ("/openai/v1/responses", Some((Endpoint::Responses, None))),
            ("/openai/responses", Some((Endpoint::Responses, None))),
            ("/openai/deployments//chat/completions", None),
            ("/openai/openai/responses", None),
            ("/v2/chat/completions", None),
            ("/openai/deployments/x", None),
            ("/v1/chat/completions/", None),
        ];
        for (path, wanted) in table {
            assert_eq!(Endpoint::of(path), wanted, "{path}");
        }
        let told: Vec<String> = Endpoint::paths().collect();
        assert_eq!(told.len(), 5 * Endpoint::ALL.len() + 1);
        assert!(told.iter().all(|path| Endpoint::of(path).is_some()));
    }
}

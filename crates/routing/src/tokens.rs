//! How many tokens a text has, by the tokenizer of its model. Tables are loaded when they are first asked
//! for: a gateway that counts nothing holds none.

/// A vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// GPT-4, GPT-3.5.
    Cl100k,
    /// GPT-4o and later. Within some percent for the models of others.
    O200k,
}

impl Encoding {
    /// The vocabulary of a model, by its name.
    #[must_use]
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let old = ["gpt-4-", "gpt-3.5", "text-embedding-"];
        if name == "gpt-4" || old.iter().any(|head| name.starts_with(head)) {
            Self::Cl100k
        } else {
            Self::O200k
        }
    }
}

/// Tokens of a text.
#[must_use]
pub fn count(encoding: Encoding, text: &str) -> u64 {
    let tokenizer = match encoding {
        Encoding::Cl100k => bpe_openai::cl100k_base(),
        Encoding::O200k => bpe_openai::o200k_base(),
    };
    tokenizer.count(text) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_models_own() {
        assert_eq!(count(Encoding::of("gpt-4"), "hello world"), 2);
        assert_eq!(count(Encoding::of("openai/gpt-4o"), "hello world"), 2);
        assert_eq!(Encoding::of("gpt-4o-mini"), Encoding::O200k);
        assert_eq!(Encoding::of("gpt-4-turbo"), Encoding::Cl100k);
    }
}

//! What a call needs, and who may answer it.

use std::sync::Arc;

use schemas::{NanoUsd, Text};

use crate::Deployment;

/// Price of a call at a member; `None` where it is not known.
pub type Price<'a, T> = &'a dyn Fn(&T) -> Option<NanoUsd>;

/// Context window of a member, in tokens; `None` where it is not known.
pub type Window<'a, T> = &'a dyn Fn(&T) -> Option<u64>;

/// What a call needs, as far as the choice depends on it. `T` is what the members carry.
pub struct Ask<'a, T> {
    /// Tokens of the prompt: counted, or a bound.
    pub tokens: u64,
    /// The same by a member's own tokenizer, where members differ.
    pub size: Option<&'a dyn Fn(&T) -> u64>,
    /// Tokens of the answer asked for; 0 where nobody said.
    pub output: u64,
    pub tags: &'a [Text],
    /// Only deployments of this region.
    pub region: Option<&'a str>,
    /// Hash of the session that the call belongs to.
    pub session: Option<u64>,
    /// Capabilities: `vision`, `function_calling`, …
    pub needs: &'a [&'a str],
    /// Whether the prompt must fit the window.
    pub must_fit: bool,
    pub class: Class,
    pub cost: Option<Price<'a, T>>,
    /// Context window of a member whose own file says none.
    pub window: Option<Window<'a, T>>,
    /// Whether the caller may use a member.
    pub allowed: Option<&'a dyn Fn(&T) -> bool>,
}

impl<T> Default for Ask<'_, T> {
    fn default() -> Self {
        Self {
            tokens: 0,
            size: None,
            output: 0,
            tags: &[],
            region: None,
            session: None,
            needs: &[],
            must_fit: false,
            class: Class::Ordinary,
            cost: None,
            window: None,
            allowed: None,
        }
    }
}

/// Calls that thresholds send elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Class {
    #[default]
    Ordinary,
    /// To the cheapest deployment.
    Small,
    /// To one whose window holds the prompt, before others to one that is made for it.
    Long,
}

/// One deployment of a group, and what the caller keeps beside it.
#[derive(Debug)]
pub struct Member<T> {
    pub deployment: Arc<Deployment>,
    pub served: T,
}

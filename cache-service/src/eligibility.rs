//! Which tiers a request may use, and the closed set of reasons that users and metrics are told.
//!
//! Decides from the request alone; that a text has too many tokens only the embedder can tell.

use serde_json::{Map, Value};

use crate::config::{Mode, Policy};
use crate::guards::words;
use crate::key;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a request was not answered from the cache, or not by meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the metrics.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in headers and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Caching is off for this tenant.
    Off => "off",
    /// The body is larger than the cache reads.
    TooLarge => "too-large",
    /// The body is not a chat request that the cache can read.
    Unreadable => "unreadable",
    /// The provider keeps state that the body only refers to.
    ServerState => "server-state",
    /// Tenant's policy: word for word only.
    ExactOnly => "exact-only",
    /// More than one message besides the system prompt.
    MultiTurn => "multi-turn",
    /// The last message is not a user's, or has parts besides its text.
    NotPlainText => "not-plain-text",
    /// Tools may be called.
    Tools => "tools",
    /// More than one choice.
    Choices => "n",
    /// Token probabilities belong to one wording.
    Logprobs => "logprobs",
    /// A seed asks for repeatable sampling of this very text.
    Seed => "seed",
    /// The temperature is above the policy's maximum.
    Temperature => "temperature",
    /// No temperature, where the policy wants one.
    Sampled => "sampled",
    /// Something other than text is asked for.
    Modality => "modality",
    /// The answer depends on when it is asked.
    Freshness => "freshness",
    /// The text orders something to be done.
    Action => "action",
    /// Code, or mostly signs and digits.
    NotProse => "not-prose",
    /// No text.
    EmptyText => "empty-text",
    /// Fewer than three word pieces.
    TooShort => "too-short",
    /// More word pieces than the model was trained on.
    OverWindow => "over-window",
    /// The semantic tier is off or out of order.
    NoModel => "no-model",
    /// Too many texts wait to be embedded.
    EmbedBusy => "embed-busy",
    /// The vector was not ready in time.
    EmbedTimeout => "embed-timeout",
    /// The model gave no usable vector.
    EmbedFailed => "embed-failed",
    /// The client wants a new answer.
    NoCache => "no-cache",
    /// What is stored is older than the client accepts.
    MaxAge => "max-age",
    /// Waited for an identical request, which did not answer in time or not storably.
    FollowerWait => "follower-wait",
    /// The store that answers are shared in does not answer.
    StoreDown => "store-down",
    /// The store has evicted the answer.
    Evicted => "evicted",
    /// Nothing like it is stored.
    NoNeighbour => "not-found",
    /// Numbers or ids differ.
    GuardNumber => "guard:number",
    /// One says no, the other yes.
    GuardNegation => "guard:negation",
    /// Opposites.
    GuardAntonym => "guard:antonym",
    /// Units or currencies differ.
    GuardUnit => "guard:unit",
    /// Dates or times differ.
    GuardTime => "guard:time",
    /// A name in one is missing in the other.
    GuardEntity => "guard:entity",
    /// The same words with their roles exchanged.
    GuardOrder => "guard:order",
}

/// How far a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Neither read nor stored.
    Bypass(Reason),
    /// Word for word only, and why.
    Exact(Reason),
    /// By meaning too.
    Semantic,
}

/// Decides the tier of a parsed request.
pub(crate) fn tier(request: &Map<String, Value>, policy: &Policy) -> Tier {
    if policy.mode == Mode::Off {
        return Tier::Bypass(Reason::Off);
    }
    let Some(messages) = request
        .get("messages")
        .and_then(Value::as_array)
        .filter(|m| !m.is_empty())
    else {
        return Tier::Bypass(Reason::Unreadable);
    };
    let set = |name: &str| request.get(name).filter(|v| !v.is_null());
    if ["previous_response_id", "conversation"]
        .iter()
        .any(|name| set(name).is_some())
        || ["store", "background"]
            .iter()
            .any(|name| set(name) == Some(&Value::Bool(true)))
    {
        return Tier::Bypass(Reason::ServerState);
    }
    match exact_only(request, messages, policy) {
        Some(reason) => Tier::Exact(reason),
        None => Tier::Semantic,
    }
}

fn exact_only(request: &Map<String, Value>, messages: &[Value], policy: &Policy) -> Option<Reason> {
    if policy.mode == Mode::Exact {
        return Some(Reason::ExactOnly);
    }
    let set = |name: &str| request.get(name).filter(|v| !v.is_null());
    let turns = messages
        .iter()
        .filter(|m| {
            !matches!(
                m.get("role").and_then(Value::as_str),
                Some("system" | "developer")
            )
        })
        .count();
    if turns > 1 {
        return Some(Reason::MultiTurn);
    }
    if messages
        .iter()
        .any(|m| m.get("content").is_some_and(has_attachment))
    {
        return Some(Reason::NotPlainText);
    }
    let offers = |name: &str| set(name).is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()));
    let refused = |name: &str| set(name).is_some_and(|v| v == "none");
    if (offers("tools") && !refused("tool_choice"))
        || (offers("functions") && !refused("function_call"))
    {
        return Some(Reason::Tools);
    }
    if set("web_search_options").is_some() {
        return Some(Reason::Freshness);
    }
    if set("n").is_some_and(|n| n.as_u64() != Some(1)) {
        return Some(Reason::Choices);
    }
    if set("logprobs").is_some_and(|v| v != &Value::Bool(false)) || set("top_logprobs").is_some() {
        return Some(Reason::Logprobs);
    }
    if set("seed").is_some() {
        return Some(Reason::Seed);
    }
    match set("temperature") {
        Some(t) if t.as_f64().is_none_or(|t| t > policy.temperature_max) => {
            return Some(Reason::Temperature);
        }
        None if !policy.allow_sampled => return Some(Reason::Sampled),
        _ => {}
    }
    let only_text = |v: &Value| v.as_array().is_some_and(|m| m.iter().all(|m| m == "text"));
    if set("modalities").is_some_and(|v| !only_text(v)) || set("audio").is_some() {
        return Some(Reason::Modality);
    }
    let Some(text) = key::question(request) else {
        return Some(Reason::NotPlainText);
    };
    unfit_text(text)
}

fn has_attachment(content: &Value) -> bool {
    content.as_array().is_some_and(|parts| {
        parts
            .iter()
            .any(|p| p.get("type").and_then(Value::as_str) != Some("text"))
    })
}

/// Texts whose likeness says nothing about whether one answer fits both.
fn unfit_text(text: &str) -> Option<Reason> {
    let (mut letters, mut signs) = (0u32, 0u32);
    // Zero-width marks embed like the empty text, which is near to every other empty text.
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}');
    for c in text
        .chars()
        .filter(|&c| !c.is_whitespace() && !c.is_control() && !invisible(c))
    {
        if c.is_alphabetic() {
            letters += 1
        } else {
            signs += 1
        }
    }
    if letters + signs == 0 {
        return Some(Reason::EmptyText);
    }
    // Above 30% signs and digits a text is a formula, a table or code.
    if text.contains("```") || signs * 7 > letters * 3 {
        return Some(Reason::NotProse);
    }
    let mut before = String::new();
    let mut at_start = true;
    let mut asked_politely = false;
    // "Transfer limits for students?" orders nothing; "Can you transfer 20 dollars to Ann?" does.
    let is_question = text.trim_end().ends_with('?');
    for word in text
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|w| !w.is_empty())
    {
        let word = word.to_lowercase();
        if words::FRESH.contains(word.as_str())
            || (matches!(before.as_str(), "this" | "last" | "next" | "right" | "past")
                && words::FRESH_AFTER_THIS.contains(word.as_str()))
        {
            return Some(Reason::Freshness);
        }
        if at_start {
            at_start = words::POLITE.contains(word.as_str());
            asked_politely |= at_start;
            if !at_start
                && words::ACTIONS.contains(word.as_str())
                && (asked_politely || !is_question)
            {
                return Some(Reason::Action);
            }
        }
        before = word;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decide(body: Value) -> Tier {
        let Value::Object(request) = body else {
            panic!("not an object")
        };
        tier(&request, &Policy::default())
    }

    fn with(field: &str, value: Value) -> Tier {
        let mut body = json!({"messages": [{"role": "user", "content": "How do I boil an egg?"}]});
        body[field] = value;
        decide(body)
    }

    fn text(text: &str) -> Tier {
        decide(json!({"messages": [{"role": "user", "content": text}]}))
    }

    #[test]
    fn parameters_choose_the_tier() {
        use Reason as R;
        let table = [
            (with("stream", json!(true)), Tier::Semantic),
            (with("temperature", json!(0)), Tier::Semantic),
            (with("temperature", json!(1.2)), Tier::Exact(R::Temperature)),
            (with("seed", json!(1)), Tier::Exact(R::Seed)),
            (with("seed", json!(null)), Tier::Semantic),
            (with("n", json!(1)), Tier::Semantic),
            (with("n", json!(2)), Tier::Exact(R::Choices)),
            (with("logprobs", json!(false)), Tier::Semantic),
            (with("logprobs", json!(true)), Tier::Exact(R::Logprobs)),
            (with("tools", json!([])), Tier::Semantic),
            (
                with("tools", json!([{"type": "function"}])),
                Tier::Exact(R::Tools),
            ),
            (with("modalities", json!(["text"])), Tier::Semantic),
            (
                with("modalities", json!(["text", "audio"])),
                Tier::Exact(R::Modality),
            ),
            (with("store", json!(true)), Tier::Bypass(R::ServerState)),
            (with("store", json!(false)), Tier::Semantic),
            (
                with("previous_response_id", json!("r")),
                Tier::Bypass(R::ServerState),
            ),
            (with("messages", json!([])), Tier::Bypass(R::Unreadable)),
            (with("messages", json!("hi")), Tier::Bypass(R::Unreadable)),
        ];
        for (row, (is, wanted)) in table.into_iter().enumerate() {
            assert_eq!(is, wanted, "row {row}");
        }
    }

    #[test]
    fn messages_and_words_choose_the_tier() {
        use Reason as R;
        let table = [
            (text("How do I boil an egg?"), Tier::Semantic),
            (text(""), Tier::Exact(R::EmptyText)),
            (text(" \u{200b}\u{0}\n"), Tier::Exact(R::EmptyText)),
            (text("What is 3 + 4 * (7 - 2)?"), Tier::Exact(R::NotProse)),
            (text("Explain ```let x```"), Tier::Exact(R::NotProse)),
            (
                text("What is the weather in Oslo?"),
                Tier::Exact(R::Freshness),
            ),
            (
                text("Who won the match last night?"),
                Tier::Exact(R::Freshness),
            ),
            (
                text("Please transfer money to my brother"),
                Tier::Exact(R::Action),
            ),
            (
                text("Can you transfer money to my brother?"),
                Tier::Exact(R::Action),
            ),
            (text("Transfer limits for students?"), Tier::Semantic),
            (
                text("How do I transfer money to my brother?"),
                Tier::Semantic,
            ),
            (
                decide(
                    json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Why is it so?"}]}),
                ),
                Tier::Semantic,
            ),
            (
                decide(
                    json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}),
                ),
                Tier::Exact(R::MultiTurn),
            ),
            (
                decide(
                    json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
                ),
                Tier::Exact(R::NotPlainText),
            ),
            (
                decide(json!({"messages": [{"role": "assistant", "content": "Why is it"}]})),
                Tier::Exact(R::NotPlainText),
            ),
        ];
        for (row, (is, wanted)) in table.into_iter().enumerate() {
            assert_eq!(is, wanted, "row {row}");
        }
    }
}

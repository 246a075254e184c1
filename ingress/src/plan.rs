//! Where a call goes: what its request asks of a deployment, and the plan of its attempts.
//!
//! Where the file says nothing that depends on requests, nothing is looked at in one.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memmem;
use metering::{Bounds, Price, PriceKey, worst_case_within};
use routing::{
    Ask, Attempts, Class, Encoding, Failure, GiveUp, Group, Moment, NoChoice, Overrides, Step,
};
use schemas::{AttoUsd, Meter, NanoUsd, Text};
use serde_json::value::RawValue;

use crate::directory::Principal;
use crate::models::{Models, Served};
use crate::request::ModelRequest;
use crate::usage::tokens_of_bytes;
use crate::{Error, Gateway};

/// An answer's length where nobody says, for comparing prices.
const ANSWER_TOKENS: u64 = 256;
/// Longer prompts are counted off the serving thread.
pub const COUNTED_HERE: usize = 64 * 1024;
/// What frames a message.
pub const FRAMING: u64 = 4;
/// The most of the messages that a session is known by, where the client names none: they begin alike, turn
/// after turn.
const SESSION_BYTES: usize = 16 << 10;

/// One call's way.
pub struct Plan {
    /// What was in force when the call came: it goes by that to its end.
    models: Arc<Models>,
    attempts: Attempts<Arc<Served>>,
    /// None where no rule looks at requests.
    facts: Option<Box<Facts>>,
    pub max_fallbacks: u32,
    /// When the choice began.
    began: Option<Instant>,
}

/// A call as it came.
pub struct Came<'a> {
    pub request: &'a ModelRequest,
    pub caller: &'a Principal,
    pub wishes: Wishes,
    /// Of the headers; the request has its own.
    pub tags: &'a [Text],
    pub started: Instant,
    /// The whole of it ends within this.
    pub timeout: Duration,
}

/// What the headers of a call say for routing.
#[derive(Debug, Default)]
pub struct Wishes {
    /// `x-litellm-num-retries`.
    pub retries: Option<u32>,
    /// `x-litellm-session-id`.
    pub session: Option<Text>,
    /// `x-tollgate-region`.
    pub region: Option<Text>,
}

/// What a request asks of a deployment.
struct Facts {
    org: Text,
    tokens: u64,
    /// The same by other vocabularies, where not all that may serve the call have one.
    also: Vec<(Encoding, u64)>,
    output: u64,
    choices: u32,
    tags: Vec<Text>,
    region: Option<Text>,
    session: Option<u64>,
    needs: Vec<&'static str>,
    must_fit: bool,
    class: Class,
    by_price: bool,
}

/// What has happened.
pub enum Event<'a> {
    /// The call has come.
    Begun,
    /// Its attempt failed after so long.
    Failed(&'a Failure, Duration),
    /// The chosen deployment is at a limit of its own.
    Full,
    /// The answer has not begun yet: another attempt beside it.
    Slow,
}

impl Plan {
    /// The plan of a call whose name is `asked`.
    pub async fn new(
        gateway: &Gateway,
        models: Arc<Models>,
        asked: Arc<Group<Arc<Served>>>,
        came: Came<'_>,
    ) -> Self {
        let overrides = Overrides {
            retries: came.wishes.retries.or(came.request.num_retries),
            fallbacks: came.request.fallbacks.clone(),
        };
        let deadline = gateway.moment_of(came.started).plus(came.timeout);
        let mut began = None;
        let facts = if models.is_plain() && came.wishes.region.is_none() {
            None
        } else {
            began = Some(Instant::now());
            // A box, so that calls that need none of it have no room for it.
            let facts = Box::pin(Facts::of(gateway, &models, &asked, &overrides, came));
            Some(Box::new(facts.await))
        };
        let elsewhere = facts
            .as_ref()
            .filter(|facts| facts.class != Class::Ordinary)
            .and_then(|_| models.everything().cloned());
        let max_fallbacks = models.rules.max_fallbacks(&asked.name, &overrides);
        Self {
            attempts: Attempts::new(models.rules.clone(), asked, elsewhere, overrides, deadline),
            facts,
            max_fallbacks,
            began,
            models,
        }
    }

    /// Of a call to one deployment alone, once.
    pub fn alone(models: Arc<Models>, group: Arc<Group<Arc<Served>>>, deadline: Moment) -> Self {
        let overrides = Overrides {
            retries: Some(0),
            fallbacks: Some(Vec::new()),
        };
        let rules = models.rules.clone();
        Self {
            attempts: Attempts::new(rules, group, None, overrides, deadline),
            facts: None,
            began: None,
            models,
            max_fallbacks: 0,
        }
    }

    /// The settings that the call goes by.
    #[must_use]
    pub fn config(&self) -> &config::Config {
        &self.models.config
    }

    /// What comes next.
    pub fn step(&mut self, gateway: &Gateway, event: &Event<'_>) -> Step<Arc<Served>> {
        let step = self.choose(gateway, event);
        // None can do what the call needs: whichever is next says which parameter it cannot take, or goes
        // without it where the file wants that.
        if let (Step::GiveUp(GiveUp::None(NoChoice::Unfit)), Some(facts)) = (&step, &mut self.facts)
            && !facts.needs.is_empty()
        {
            facts.needs.clear();
            return self.choose(gateway, event);
        }
        step
    }

    fn choose(&mut self, gateway: &Gateway, event: &Event<'_>) -> Step<Arc<Served>> {
        let at = Instant::now();
        self.began.get_or_insert(at);
        let (now, random) = (gateway.moment_of(at), rand::random());
        let models = &self.models;
        let lookup = |name: &str| models.find(name).ok().filter(|group| callable(group));
        let facts = self.facts.as_deref();
        let cost = |served: &Arc<Served>| facts?.cost(gateway, served);
        let window = |served: &Arc<Served>| facts?.of_price(gateway, served, Price::max_input);
        let size = |served: &Arc<Served>| facts.map_or(0, |facts| facts.size(served));
        let ask = match facts {
            None => Ask::default(),
            Some(facts) => Ask {
                tokens: facts.tokens,
                size: (!facts.also.is_empty()).then_some(&size),
                output: facts.output,
                tags: &facts.tags,
                region: facts.region.as_deref(),
                session: facts.session,
                needs: &facts.needs,
                must_fit: facts.must_fit,
                class: facts.class,
                cost: facts.by_price.then_some(&cost),
                window: Some(&window),
                allowed: None,
            },
        };
        let attempts = &mut self.attempts;
        match event {
            Event::Begun => attempts.first(&ask, now, random, &lookup),
            Event::Failed(failure, took) => {
                attempts.failed(failure, *took, &ask, now, random, &lookup)
            }
            Event::Full => attempts.full(&ask, now, random, &lookup),
            Event::Slow => attempts
                .hedge(&ask, now, random)
                .map_or(Step::GiveUp(GiveUp::Failed), Step::Try),
        }
    }

    /// What a client is told where nothing could be tried.
    pub fn refusal(&self, gateway: &Gateway, why: GiveUp) -> Error {
        let model = self.attempts.asked().name.to_string();
        let none = match why {
            GiveUp::None(none) => none,
            GiveUp::Failed => NoChoice::Tried,
        };
        let reason = match none {
            NoChoice::Cooled { until } => {
                let left = until.since(gateway.moment());
                return Error::CoolingDown {
                    model,
                    seconds: left.as_secs() + 1,
                };
            }
            NoChoice::TooLong { window } => {
                return Error::PromptTooLong {
                    window,
                    tokens: self.facts.as_ref().map_or(0, |facts| facts.tokens),
                };
            }
            NoChoice::Tags => "none has the tags of this request",
            NoChoice::Region => "none is in the region of this request",
            NoChoice::Unfit => "none can do what this request needs",
            NoChoice::Tried => "none has room",
        };
        Error::NoDeployment { model, reason }
    }

    /// When the first choice began; `now` before it.
    #[must_use]
    pub fn began(&self, now: Instant) -> Instant {
        self.began.unwrap_or(now)
    }

    pub const fn attempts_mut(&mut self) -> &mut Attempts<Arc<Served>> {
        &mut self.attempts
    }

    #[must_use]
    pub const fn attempts(&self) -> &Attempts<Arc<Served>> {
        &self.attempts
    }
}

/// A fallback that nothing can be sent to is passed over.
fn callable(group: &Group<Arc<Served>>) -> bool {
    group.members().iter().any(|member| {
        let dialect = member.served.deployment.entry.dialect;
        !matches!(dialect, config::Dialect::Unsupported(_))
    })
}

impl Facts {
    async fn of(
        gateway: &Gateway,
        models: &Models,
        asked: &Arc<Group<Arc<Served>>>,
        overrides: &Overrides,
        came: Came<'_>,
    ) -> Self {
        let Came {
            request,
            caller,
            wishes,
            tags,
            ..
        } = came;
        let rules = &models.rules.0;
        let mut facts = Self {
            org: caller.attribution().org.0,
            tokens: tokens_of_bytes(request.body.len() as u64),
            also: Vec::new(),
            output: request.output_cap.unwrap_or(0),
            choices: request.choices,
            tags: if rules.tag_filtering {
                request.tags.iter().chain(tags).cloned().collect()
            } else {
                Vec::new()
            },
            region: wishes.region,
            session: rules
                .sticky_sessions
                .then(|| session(request, wishes.session.as_deref(), rules.sticky_by_prompt)),
            needs: if models.steers_by_capability() {
                needs(request)
            } else {
                Vec::new()
            },
            must_fit: rules.pre_call_checks,
            class: Class::Ordinary,
            by_price: false,
        };
        facts.by_price = rules.cost_threshold.is_some()
            || [Some(rules.strategy), rules.then].contains(&Some(config::Strategy::Cost));
        let (few, many) = (rules.cost_threshold, rules.context_threshold);
        if !(facts.must_fit || few.is_some() || many.is_some()) {
            return facts;
        }
        // A token has a byte at least: what fits by bytes fits.
        let bytes = request.body.len() as u64;
        let window = |served: &Arc<Served>| {
            let own = served.deployment.entry.limits.max_input_tokens;
            own.map(u64::from)
                .or_else(|| facts.of_price(gateway, served, Price::max_input))
        };
        let groups = reachable(models, asked, overrides);
        let members = || groups.iter().flat_map(|group| group.members());
        let windows = members().filter_map(|m| window(&m.served));
        let least = windows.chain(many).min();
        if least.is_some_and(|least| bytes > least) {
            let mut encodings: Vec<Encoding> = Vec::new();
            for encoding in members().map(|m| vocabulary(&m.served)) {
                if !encodings.contains(&encoding) {
                    encodings.push(encoding);
                }
            }
            (facts.tokens, facts.also) = counted(encodings, request).await;
        }
        let price = |one: &Arc<Served>| facts.cost(gateway, one).or_else(|| hinted(one, &facts));
        let first = asked.members().first();
        let small = few.zip(first.and_then(|first| price(&first.served)));
        facts.class = if many.is_some_and(|many| facts.tokens > many) {
            Class::Long
        } else if small.is_some_and(|(few, cost)| cost <= few) {
            Class::Small
        } else {
            Class::Ordinary
        };
        facts.must_fit |= facts.class != Class::Ordinary;
        facts
    }

    /// Tokens of the prompt for a deployment.
    fn size(&self, served: &Served) -> u64 {
        let own = vocabulary(served);
        let known = self.also.iter().find(|(encoding, _)| *encoding == own);
        known.map_or(self.tokens, |(_, tokens)| *tokens)
    }

    /// What the catalog says of a deployment's model.
    fn of_price<R>(
        &self,
        gateway: &Gateway,
        served: &Served,
        read: impl Fn(&Price) -> Option<R>,
    ) -> Option<R> {
        let catalog = gateway.catalog.load();
        let key = PriceKey {
            org: &self.org,
            deployment: &served.deployment.id,
            provider: &served.deployment.provider,
            model: &served.priced_as,
        };
        read(catalog.price(&key, gateway.now(), catalog.version())?)
    }

    /// The real price of this call, as far as it can be known before: its tokens at what text costs. Its worst
    /// case would be a prompt that the provider writes to its cache, at twice the price with some.
    fn cost(&self, gateway: &Gateway, served: &Served) -> Option<NanoUsd> {
        let output = if self.output == 0 {
            ANSWER_TOKENS
        } else {
            self.output
        };
        self.of_price(gateway, served, |price| {
            let of = |meter, tokens: u64| {
                let unit = price.unit(meter, None, self.tokens).ok()?;
                unit.0.checked_mul(i128::from(tokens))
            };
            let answers = output.saturating_mul(u64::from(self.choices));
            let text = of(Meter::InputText, self.tokens)
                .zip(of(Meter::OutputText, answers))
                .and_then(|(input, output)| input.checked_add(output));
            let likely = text.and_then(|atto| AttoUsd(atto).round_half_even());
            // What is not priced by text.
            let bounds = || Bounds::tokens(self.tokens, output, self.choices);
            likely.or_else(|| Some(worst_case_within(price, &bounds())))
        })
    }
}

/// By `metadata.cost`.
fn hinted(served: &Served, facts: &Facts) -> Option<NanoUsd> {
    let each = served.deployment.entry.hints.cost?;
    let output = if facts.output == 0 {
        ANSWER_TOKENS
    } else {
        facts.output
    };
    let tokens = i64::try_from(facts.tokens.saturating_add(output)).unwrap_or(i64::MAX);
    Some(NanoUsd(each.0.saturating_mul(tokens) / 1_000))
}

/// Every group that may serve a call: the one of its name, those of names that may follow, and the one that
/// thresholds send calls to.
fn reachable(
    models: &Models,
    asked: &Arc<Group<Arc<Served>>>,
    overrides: &Overrides,
) -> Vec<Arc<Group<Arc<Served>>>> {
    let followers = models.rules.followers(&asked.name, overrides);
    let followers = followers.filter_map(|name| models.find(name).ok());
    [asked.clone()]
        .into_iter()
        .chain(followers)
        .chain(models.everything().cloned())
        .collect()
}

fn vocabulary(served: &Served) -> Encoding {
    Encoding::of(&served.upstream_model)
}

/// Tokens of the messages by each vocabulary, the first one first.
async fn counted(encodings: Vec<Encoding>, request: &ModelRequest) -> (u64, Vec<(Encoding, u64)>) {
    let body = request.body.clone();
    let estimate = tokens_of_bytes(body.len() as u64);
    let count = move || {
        let Some((text, framing)) = texts(&body) else {
            return Vec::new();
        };
        let tokens = |encoding| (encoding, routing::count(encoding, &text) + framing);
        encodings.into_iter().map(tokens).collect()
    };
    let mut counted: Vec<_> = if request.body.len() <= COUNTED_HERE {
        count()
    } else {
        // It never panics; were it to, the estimate is what is left.
        tokio::task::spawn_blocking(count).await.unwrap_or_default()
    };
    if counted.is_empty() {
        return (estimate, counted);
    }
    let (_, first) = counted.remove(0);
    (first, counted)
}

/// Appends what of a message becomes tokens; none where it is no object.
pub fn push_text(message: &serde_json::Value, text: &mut String) -> Option<()> {
    for value in message.as_object()?.values() {
        match value {
            serde_json::Value::String(part) => text.push_str(part),
            serde_json::Value::Array(parts) => {
                for part in parts {
                    match part.get("text").and_then(serde_json::Value::as_str) {
                        Some(part) => text.push_str(part),
                        None if part.get("type").is_none() || part.get("function").is_some() => {
                            text.push_str(&part.to_string());
                        }
                        None => {}
                    }
                }
            }
            _ => {}
        }
        text.push('\n');
    }
    Some(())
}

/// What of a request becomes tokens: the texts of its messages and its tools, and what frames them.
fn texts(body: &[u8]) -> Option<(String, u64)> {
    let request: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut text = String::new();
    // <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>: 3 a message, 3 for the answer.
    let mut framing = 3;
    for message in request.get("messages")?.as_array()? {
        framing += FRAMING;
        push_text(message, &mut text)?;
    }
    for tools in ["tools", "functions", "response_format"] {
        if let Some(tools) = request.get(tools) {
            text.push_str(&tools.to_string());
        }
    }
    Some((text, framing))
}

/// By the client's own name for it, else by whose it is and how its messages begin.
fn session(request: &ModelRequest, named: Option<&str>, by_prompt: bool) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match named {
        Some(named) => eat(named.as_bytes()),
        None => {
            let body = &request.body;
            let at = memmem::find(body, b"\"messages\"").unwrap_or(0);
            let messages = &body[at..];
            let prompt = by_prompt.then(|| opening(messages, &["system", "developer"]));
            match prompt.flatten() {
                Some(prompt) => eat(prompt),
                None => {
                    eat(request.end_user.as_deref().unwrap_or_default().as_bytes());
                    let begins = opening(messages, &["user"]).unwrap_or(messages);
                    eat(&begins[..begins.len().min(SESSION_BYTES)]);
                }
            }
        }
    }
    hash
}

/// A list of messages up to its first one of such a role; that of the system prompt is the first of all.
fn opening<'m>(messages: &'m [u8], roles: &[&str]) -> Option<&'m [u8]> {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
    }
    let list = messages.iter().position(|byte| *byte == b'[')? + 1;
    let mut at = list;
    loop {
        let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        at += messages[at..].iter().take_while(|byte| space(byte)).count();
        let mut items =
            serde_json::Deserializer::from_slice(&messages[at..]).into_iter::<&RawValue>();
        let message: Message<'_> = serde_json::from_str(items.next()?.ok()?.get()).ok()?;
        at += items.byte_offset();
        if roles.contains(&&*message.role) {
            return Some(&messages[list..at]);
        }
        // Whoever asks for the prompt asks for what stands first.
        if !roles.contains(&"user") {
            return None;
        }
    }
}

/// Capabilities by LiteLLM's words (`supports_…`), seen from the members of the request.
fn needs(request: &ModelRequest) -> Vec<&'static str> {
    let has = |word: &[u8]| memmem::find(&request.body, word).is_some();
    let mut needs = Vec::new();
    if request.attachments.images > 0 {
        needs.push("vision");
    }
    if has(b"\"tools\"") || has(b"\"functions\"") {
        needs.push("function_calling");
    }
    if has(b"\"json_schema\"") {
        needs.push("response_schema");
    }
    if has(b"\"reasoning_effort\"") {
        needs.push("reasoning");
    }
    if has(b"\"input_audio\"") {
        needs.push("audio_input");
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_how_it_opens() {
        let short = br#"{"messages": [{"role":"system","content":"be kind"}, {"role":"user","content":"hi"}]}"#;
        let long =
            br#"{"messages":[{"role":"system","content":"be kind"}, {"role":"user","content":"hi"},
            {"role":"assistant","content":"hello"},{"role":"user","content":"and now?"}]}"#;
        let user = |body| opening(body, &["user"]).map(String::from_utf8_lossy);
        assert_eq!(user(short), user(long));
        assert!(user(short).unwrap().ends_with("\"hi\"}"));
        let system = |body| opening(body, &["system", "developer"]).map(String::from_utf8_lossy);
        assert_eq!(
            system(long).as_deref(),
            Some(r#"{"role":"system","content":"be kind"}"#)
        );
        for none in [
            &b"{}"[..],
            b"[",
            b"[{\"role\":\"user\"",
            b"[{\"role\":\"user\",\"content\":\"x\"}]",
        ] {
            assert_eq!(system(none), None);
        }
    }
}

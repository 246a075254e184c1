//! What a request asks of a deployment, as far as the file's rules look at requests at all.

use std::sync::Arc;

use memchr::memmem;
use metering::{Bounds, Price, PriceKey, worst_case_within};
use routing::{Class, Encoding, Group, Overrides};
use schemas::{AttoUsd, Meter, NanoUsd, Text};

use super::Came;
use super::session::session;
use super::tokens::counted;
use crate::Gateway;
use crate::models::{Models, Served};
use crate::request::ModelRequest;
use crate::usage::tokens_of_bytes;

/// An answer's length where nobody says, for comparing prices.
const ANSWER_TOKENS: u64 = 256;

/// What a request asks of a deployment.
pub(super) struct Facts {
    pub(super) org: Text,
    pub(super) tokens: u64,
    /// The same by other vocabularies, where not all that may serve the call have one.
    pub(super) also: Vec<(Encoding, u64)>,
    pub(super) output: u64,
    pub(super) choices: u32,
    pub(super) tags: Vec<Text>,
    pub(super) region: Option<Text>,
    pub(super) session: Option<u64>,
    pub(super) needs: Vec<&'static str>,
    pub(super) must_fit: bool,
    pub(super) class: Class,
    pub(super) by_price: bool,
    /// Names that the caller may not use, and that no list of its own leads to: thresholds do not, either.
    pub(super) barred: Vec<Text>,
}

impl Facts {
    pub(super) async fn of(
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
            barred: Vec::new(),
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
        if let (true, Some(all)) = (
            facts.class != Class::Ordinary && caller.is_limited(),
            models.everything(),
        ) {
            let name = |member: &routing::Member<Arc<Served>>| member.served.shown.name.clone();
            let mut names: Vec<Text> = all.members().iter().map(name).collect();
            names.sort_unstable();
            names.dedup();
            let own = groups.iter().filter(|group| !Arc::ptr_eq(group, all));
            let own: Vec<Text> = own.flat_map(|group| group.members()).map(name).collect();
            names.retain(|other| caller.may_use(other).is_err() && !own.contains(other));
            facts.barred = names;
        }
        facts
    }

    /// Tokens of the prompt for a deployment.
    pub(super) fn size(&self, served: &Served) -> u64 {
        let own = vocabulary(served);
        let known = self.also.iter().find(|(encoding, _)| *encoding == own);
        known.map_or(self.tokens, |(_, tokens)| *tokens)
    }

    /// What the catalog says of a deployment's model.
    pub(super) fn of_price<R>(
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
    pub(super) fn cost(&self, gateway: &Gateway, served: &Served) -> Option<NanoUsd> {
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

//! From a request to an admitted call: bounds, price, one reservation over all scopes, ADMIT.

use std::sync::Arc;
use std::time::{Duration, Instant};

use budgets::{Refusal, Reserve};
use metering::{Bounds, Price, PriceKey, affordable_output_within, worst_case_within};
use schemas::{Admitted, Attribution, Micros, NanoUsd, RequestId, Stages, Text};

use crate::directory::Principal;
use crate::endpoint::Output;
use crate::models::Served;
use crate::record::{Call, Opening, budget_refs, hold_expires};
use crate::request::{ModelRequest, Units};
use crate::{Error, Gateway};

/// Tokens of an answer where neither client, deployment nor catalog bounds it. A cap is sent wherever a
/// budget is checked, so this bounds the answer, not only the estimate.
const OUTPUT_DEFAULT: u64 = 32_768;
/// The smallest answer worth buying when a budget is nearly spent.
const OUTPUT_LEAST: u64 = 16;
/// The most one image costs as prompt: gpt-4o-mini, 2,833 + 5,667 a tile, at most 8 tiles.
/// <https://platform.openai.com/docs/guides/images-vision>
const IMAGE_TOKENS_MAX: u64 = 48_169;
/// A file of unknown size can fill any window of today's models.
const FILE_TOKENS_MAX: u64 = 2_000_000;

/// An admitted call and the cap that we set, if we set one.
pub struct Admission {
    pub call: Call,
    pub cap: Option<u64>,
}

/// Where a call comes from, beside its body.
pub struct Origin<'a> {
    pub caller: &'a Principal,
    /// Its own, where it was needed before.
    pub id: Option<RequestId>,
    pub call_id: Option<Text>,
    /// From `x-litellm-end-user-id` and `x-litellm-tags`.
    pub end_user: Option<Text>,
    pub tags: Vec<Text>,
    /// From `x-litellm-spend-logs-metadata`.
    pub metadata: Option<Text>,
    pub now: Micros,
    pub started: Instant,
    /// The whole call ends by then.
    pub timeout: Duration,
    /// Where the time went so far.
    pub stages: Stages,
    /// As the call found them.
    pub budgets: &'a config::Budgets,
}

/// Reserves the worst case on every scope and writes ADMIT.
///
/// # Errors
/// A refusal by a budget or a limit, a model whose price nobody knows, or a journal that takes nothing.
pub async fn admit(
    gateway: &Arc<Gateway>,
    origin: Origin<'_>,
    request: &ModelRequest,
    served: &Served,
) -> Result<Admission, Error> {
    let Origin {
        caller,
        id,
        call_id,
        end_user,
        tags,
        metadata,
        now,
        started,
        timeout,
        stages,
        budgets,
    } = origin;
    let attribution = attribution(caller, request, end_user, tags);
    let mut scopes = Vec::with_capacity(4);
    // Windows turn by the clock of the budget state, so that no call is counted in two.
    let at = gateway.budgets.clock(now);
    let customer = attribution.end_user.as_ref();
    caller.scopes(&gateway.directory, customer, at, &mut scopes);
    let hard = scopes.iter().any(|scope| scope.limit.is_some());

    let catalog = gateway.catalog.load();
    let key = PriceKey {
        org: &attribution.org.0,
        deployment: &served.deployment.id,
        provider: &served.deployment.provider,
        model: &served.priced_as,
    };
    let price = catalog.price(&key, now, catalog.version());
    let asked = Asked::new(request, served, price);
    let (amount, least) = asked.holds(price, hard, budgets.unpriced_ceiling, &request.model)?;

    let request_id = id.unwrap_or_else(|| fresh_id(now));
    let deadline = Micros(
        now.0
            .saturating_add(i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX)),
    );
    let input_estimate = request.input_estimate().min(asked.input);
    // As long from then as from now: the two clocks may differ.
    let lasts = hold_expires(now, deadline, budgets.hold).0 - now.0;
    let asked_at = |at: Micros| Reserve {
        hold: request_id,
        amount,
        least,
        tokens: input_estimate + request.output_cap.unwrap_or(0),
        scopes: &[],
        now: at,
        expires: Micros(at.0.saturating_add(lasts)),
    };
    let reserve = Reserve {
        scopes: &scopes,
        ..asked_at(at)
    };
    let granted = match gateway.budgets.reserve(&reserve).await {
        // A window ended on the way, or the clocks differ.
        Err(Refusal::Stale { now: at }) => {
            scopes.clear();
            caller.scopes(&gateway.directory, customer, at, &mut scopes);
            let reserve = Reserve {
                scopes: &scopes,
                ..asked_at(at)
            };
            gateway.budgets.reserve(&reserve).await?
        }
        answer => answer?,
    };
    // Only where the client left it open and money is checked: otherwise the request goes out as it came.
    let cap = match (request.output_cap, price) {
        (None, Some(price)) if hard && !asked.fixed => {
            Some(asked.affordable(price, granted.amount))
        }
        _ => None,
    };
    let output_cap = request.output_cap.or(cap);
    let admitted = Admitted {
        event_time: now,
        request_id,
        attribution,
        model_requested: request.model.clone(),
        provider: served.deployment.provider.clone(),
        model: served.priced_as.clone(),
        deployment: served.deployment.id.clone(),
        stream: request.stream,
        hold: granted.amount,
        input_bound: asked.input,
        output_cap: output_cap.map(|cap| cap.saturating_add(asked.predicted)),
        budgets: budget_refs(&scopes),
        catalog_version: catalog.version(),
        config_version: gateway.directory.version(),
        deadline,
    };
    let opening = Opening {
        admitted,
        call_id,
        choices: request.choices,
        input_estimate,
        scopes,
        granted,
        expires: Micros(at.0.saturating_add(lasts)),
        started,
        stages,
        metadata,
    };
    match Call::open(gateway, opening) {
        Ok(call) => Ok(Admission { call, cap }),
        Err(error) => {
            gateway.budgets.release(request_id).await;
            Err(error)
        }
    }
}

/// What another attempt of a call may use: its hold covers it.
pub struct Again {
    /// Tokens of the prompt at most.
    pub input_bound: u64,
    /// Output tokens of one choice at most, predicted ones included.
    pub output_cap: Option<u64>,
    /// The cap that we set, if we set one.
    pub cap: Option<u64>,
    /// More is held than before.
    pub raised: bool,
}

/// Makes sure that a call's hold covers an attempt at `served`, beside what its earlier attempts have cost;
/// `spent` is what the present one will be charged, `ceiling` what one without a price is held at.
///
/// # Errors
/// There is no room for it in a budget, or nobody knows its price.
pub async fn again(
    call: &mut Call,
    request: &ModelRequest,
    served: &Served,
    spent: NanoUsd,
    ceiling: NanoUsd,
) -> Result<Again, Error> {
    let hard = call.is_limited();
    let catalog = call.gateway().catalog.load_full();
    let usage = call.usage();
    let key = PriceKey {
        org: &usage.attribution.org.0,
        deployment: &served.deployment.id,
        provider: &served.deployment.provider,
        model: &served.priced_as,
    };
    // As it is rated: at the version that the call was admitted under.
    let price = catalog.price(&key, usage.admitted_at, usage.catalog_version);
    let asked = Asked::new(request, served, price);
    let (amount, least) = asked.holds(price, hard, ceiling, &request.model)?;
    let room = call.room().saturating_sub(spent);
    let more = |wanted: NanoUsd| wanted.saturating_sub(room).max(NanoUsd::ZERO);
    let raised = more(amount) > NanoUsd::ZERO;
    if raised {
        call.raise(more(amount), more(least)).await?;
    }
    let cap = match (request.output_cap, price) {
        (None, Some(price)) if hard => {
            Some(asked.affordable(price, call.room().saturating_sub(spent)))
        }
        _ => None,
    };
    Ok(Again {
        input_bound: asked.input,
        output_cap: request
            .output_cap
            .or(cap)
            .map(|cap| cap.saturating_add(asked.predicted)),
        cap,
        raised,
    })
}

/// A `UUIDv7`. From the thread's own generator: the system's costs a call into the kernel each time.
pub fn fresh_id(now: Micros) -> RequestId {
    let millis = u64::try_from(now.0 / 1_000).unwrap_or(0);
    let random = rand::random::<[u8; 10]>();
    RequestId(
        *uuid::Builder::from_unix_timestamp_millis(millis, &random)
            .as_uuid()
            .as_bytes(),
    )
}

fn attribution(
    caller: &Principal,
    request: &ModelRequest,
    end_user: Option<Text>,
    tags: Vec<Text>,
) -> Attribution {
    let mut attribution = caller.attribution();
    attribution.end_user = end_user.or_else(|| request.end_user.clone());
    for tag in request.tags.iter().chain(&tags) {
        if !attribution.tags.contains(tag) {
            attribution.tags.push(tag.clone());
        }
    }
    attribution
}

/// What a request can use at most.
struct Asked {
    /// Tokens of the prompt.
    input: u64,
    /// Tokens of one choice: the client's cap, else what the model can make.
    output: u64,
    /// Rejected predicted tokens are billed as output, beside the cap.
    predicted: u64,
    choices: u32,
    units: Units,
    fixed: bool,
}

impl Asked {
    fn new(request: &ModelRequest, served: &Served, price: Option<&Price>) -> Self {
        let limits = &served.deployment.entry.limits;
        let known = |own: Option<u32>, catalog: Option<u64>| own.map(u64::from).or(catalog);
        let window = known(limits.max_input_tokens, price.and_then(Price::max_input));
        let longest = known(limits.max_output_tokens, price.and_then(Price::max_output));
        let bytes = request.body.len() as u64;
        // A token of text has at least one byte, and JSON's framing outweighs every template's.
        // What the deployment's own parameters put beside it counts as well.
        let added = served.params.as_ref().map_or(0, |rules| rules.added_bytes);
        let input = bytes
            .saturating_add(added)
            .saturating_add(request.attachments.images.saturating_mul(IMAGE_TOKENS_MAX))
            .saturating_add(request.attachments.files.saturating_mul(FILE_TOKENS_MAX));
        Self {
            // A longer prompt than the window is refused by the provider, not billed.
            input: window.map_or(input, |window| input.min(window.max(1))),
            output: match request.endpoint.output() {
                Output::Text => request
                    .output_cap
                    .or(longest)
                    .unwrap_or(OUTPUT_DEFAULT)
                    .max(1),
                Output::None => 0,
                Output::AtMost(tokens) => tokens,
                Output::PerCharacter(tokens) => tokens.saturating_mul(request.units.characters),
            },
            predicted: if request.predicts { bytes } else { 0 },
            choices: request.choices,
            units: request.units,
            fixed: request.output_cap.is_some() || request.endpoint.caps().is_empty(),
        }
    }

    fn bounds(&self, output: u64) -> Bounds<'static> {
        let Units {
            images,
            seconds,
            characters,
            searches,
        } = self.units;
        Bounds {
            images,
            seconds,
            characters,
            searches,
            ..Bounds::tokens(
                self.input,
                output.saturating_add(self.predicted),
                self.choices,
            )
        }
    }

    /// What is wanted, and the least that makes sense.
    fn holds(
        &self,
        price: Option<&Price>,
        hard: bool,
        ceiling: NanoUsd,
        model: &str,
    ) -> Result<(NanoUsd, NanoUsd), Error> {
        let Some(price) = price else {
            return match (hard, ceiling) {
                (true, NanoUsd::ZERO) => Err(Error::Unpriced {
                    model: model.to_owned(),
                }),
                (true, ceiling) => Ok((ceiling, ceiling)),
                // Its hold is what an unpriced call is charged: nothing, where no budget is checked.
                (false, _) => Ok((NanoUsd::ZERO, NanoUsd::ZERO)),
            };
        };
        if !hard {
            // Nothing could be refused, and what a crash cuts off is charged what was known of it.
            return Ok((NanoUsd::ZERO, NanoUsd::ZERO));
        }
        let amount = worst_case_within(price, &self.bounds(self.output));
        if self.fixed {
            // A client's own cap is never lowered: what does not fit is refused.
            return Ok((amount, amount));
        }
        let least = worst_case_within(price, &self.bounds(self.output.min(OUTPUT_LEAST)));
        Ok((amount, least.min(amount)))
    }

    /// The cap that a grant pays for.
    fn affordable(&self, price: &Price, granted: NanoUsd) -> u64 {
        affordable_output_within(price, &self.bounds(0), granted).map_or(1, |cap| {
            cap.saturating_sub(self.predicted).clamp(1, self.output)
        })
    }
}

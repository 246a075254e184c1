//! A billed event as rows of the two tables. Pure: every column is a function of the event and its
//! charge, never of now, so a replay writes the same rows.

use analytics::{CostRow, Names, Starts, UsageRow};
use schemas::{Identity, Meter};

use crate::rated::Billed;

/// The rows of an event's first rating.
#[must_use]
pub fn rows<'a>(identity: &Identity, billed: &'a Billed<'a>) -> (UsageRow<'a>, CostRow<'a>) {
    let Billed { usage, charge } = billed;
    let who = &usage.attribution;
    let (input_tokens, output_tokens) = (usage.meters.input_tokens(), usage.meters.output_tokens());
    let compression = usage.compression.as_ref();
    let reason = charge.unpriced.as_ref().map(|reason| reason.name());
    let usage_row = UsageRow {
        ts: usage.admitted_at,
        ended_at: usage.event_time,
        source_id: identity.source_id,
        kpart: identity.partition,
        pseq: identity.pseq,
        request_id: usage.request_id,
        call_id: usage.call_id,
        org: who.org,
        team_id: who.team,
        user_id: who.user,
        key_hash: who.key,
        key_alias: who.key_alias,
        end_user: who.end_user,
        tags: &who.tags,
        model_requested: usage.model_requested,
        model: usage.model,
        provider: usage.provider,
        deployment_id: usage.deployment,
        service_tier: usage.service_tier,
        attempt_no: usage.attempt_no,
        last: usage.last,
        outcome: usage.outcome,
        estimated: usage.estimated,
        mismatch: usage.mismatch,
        stream: usage.stream,
        // Checked to be one before it is rated.
        status: u16::try_from(usage.status).unwrap_or(0),
        error_code: usage.error_code,
        finish_reason: usage.finish_reason,
        catalog_version: usage.catalog_version,
        meters: &usage.meters,
        input_tokens,
        cached_tokens: usage.meters.get(Meter::InputCacheRead),
        output_tokens,
        reasoning_tokens: usage.meters.get(Meter::OutputReasoning),
        ttft_us: usage.first_byte_us.unwrap_or(0),
        duration_us: usage.duration_us,
        cache_kind: usage.cache,
        cache_similarity: usage.cache_similarity,
        saved: usage.saved,
        hold: usage.hold,
        priced: charge.unpriced.is_none(),
        unpriced_reason: reason,
        provider_usage: usage.provider_usage,
        auth_us: usage.stages.auth_us,
        route_us: usage.stages.route_us,
        admit_us: usage.stages.admit_us,
        cache_us: usage.stages.cache_us,
        connect_us: usage.stages.connect_us.unwrap_or(0),
        attempts: &usage.attempts,
        compression: compression.map(|saving| saving.strategy),
        tokens_before: compression.map_or(0, |saving| saving.tokens_before),
        tokens_after: compression.map_or(0, |saving| saving.tokens_after),
        parent_id: usage.parent,
        metadata: usage.metadata,
    };
    let cost_row = CostRow {
        ts: usage.admitted_at,
        source_id: identity.source_id,
        kpart: identity.partition,
        pseq: identity.pseq,
        rating_seq: 0,
        request_id: usage.request_id,
        org: who.org,
        team_id: who.team,
        user_id: who.user,
        key_hash: who.key,
        key_alias: who.key_alias,
        end_user: who.end_user,
        tags: &who.tags,
        model_requested: usage.model_requested,
        model: usage.model,
        provider: usage.provider,
        deployment_id: usage.deployment,
        outcome: usage.outcome,
        last: usage.last,
        amount: charge.amount,
        exact: charge.exact,
        priced: charge.unpriced.is_none(),
        reason,
        catalog_version: usage.catalog_version,
        hold: usage.hold,
        saved: usage.saved,
        input_tokens,
        output_tokens,
        budget_id: Names(&usage.budgets),
        window_start: Starts(&usage.budgets),
    };
    (usage_row, cost_row)
}

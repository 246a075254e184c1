//! Budgets over everything, of users and of customers, and how they are held.

use std::time::Duration;

use schemas::NanoUsd;

use super::pick::pick;
use crate::settings::{Budgets, Config};
use crate::view::View;

/// What a hold outlives the longest call by: the time its billing may take.
const HOLD_MARGIN: Duration = Duration::from_secs(300);
/// Ten years: no call is that long, and every clock has room for it.
const HOLD_S_MAX: u64 = 315_360_000;

pub(super) fn budgets(root: &View<'_>, config: &mut Config) {
    let section = root.get("tollgate.budgets");
    let budgets = &mut config.budgets;
    let over_all = pick(root, "litellm_settings.max_budget");
    budgets.global_max_budget = over_all.as_ref().and_then(View::usd);
    if let (Some(view), Some(NanoUsd::ZERO)) = (&over_all, budgets.global_max_budget)
        && view.path == "litellm_settings.max_budget"
    {
        view.warn("0 is no budget, as in LiteLLM; general_settings.global_max_budget: 0 refuses every call");
        budgets.global_max_budget = None;
    }
    budgets.global_parallel = pick(root, "general_settings.global_max_parallel_requests")
        .and_then(|view| view.count_u32());
    let period = pick(root, "litellm_settings.budget_duration");
    budgets.global_period = period.as_ref().and_then(View::period);
    if let (Some(period), None) = (period, budgets.global_max_budget) {
        period.warn("has no effect without a budget over all keys (litellm_settings.max_budget)");
    }
    default_budgets(root, budgets);
    if let Some(share) = root
        .get("general_settings.budget_alert_threshold")
        .decimal()
    {
        budgets.alert_threshold = share;
    }
    if let Some(usd) = section.at("unpriced_ceiling").usd() {
        budgets.unpriced_ceiling = usd;
    }
    if let Some(zone) = pick(root, "tollgate.budgets.timezone")
        && let Some(name) = zone.text()
    {
        match jiff::tz::TimeZone::get(&name) {
            Ok(_) => budgets.timezone = name,
            Err(_) => {
                zone.error("is not a time zone; write an IANA name such as UTC or Europe/Berlin")
            }
        }
    }
    if let Some(status) = section.at("refusal_status").count() {
        budgets.refusal_status = if status == 402 { 402 } else { 429 };
    }
    // A hold that ended before its call would let others spend the same money.
    let per_model = config
        .models
        .iter()
        .map(|model| model.timeouts.total.max(model.timeouts.total_stream));
    let longest = per_model
        .chain([config.timeouts.total])
        .max()
        .unwrap_or_default();
    let hold = section.at("hold_s");
    hold.at_most(HOLD_S_MAX);
    match hold.count() {
        Some(seconds) if Duration::from_secs(seconds) <= longest => {
            hold.error(format!(
                "must be longer than the longest call may take, which is {} s",
                longest.as_secs()
            ));
        }
        Some(seconds) => budgets.hold = Duration::from_secs(seconds),
        None => budgets.hold = budgets.hold.max(longest.saturating_add(HOLD_MARGIN)),
    }
}

/// Of customers and users without a budget of their own.
fn default_budgets(root: &View<'_>, budgets: &mut Budgets) {
    budgets.end_user_budget = root.get("litellm_settings.max_end_user_budget").usd();
    let user = pick(root, "litellm_settings.max_internal_user_budget");
    budgets.user_budget = user.and_then(|view| view.usd());
    let period = root.get("litellm_settings.internal_user_budget_duration");
    budgets.user_period = period.period();
    if period.is_set() && budgets.user_budget.is_none() {
        period.warn("has no effect without max_internal_user_budget");
    }
}

//! Who is told of what: `general_settings.alerting` and what belongs to it.

use crate::Secret;
use crate::kind::is_url;
use crate::settings::{AlertPost, AlertShape, Alerts};
use crate::view::View;

/// None where the file asks for no alert.
pub(super) fn alerts(root: &View<'_>) -> Option<Alerts> {
    let general = root.at("general_settings");
    let (alerting, types) = (general.at("alerting"), general.at("alert_types"));
    let by_type = general.at("alert_to_webhook_url");
    let threshold = general.at("budget_alert_threshold");
    let asked = [&alerting, &by_type, &threshold].iter().any(|v| v.is_set());
    if !asked {
        if types.is_set() {
            types.warn("has no effect without alerting");
        }
        return None;
    }
    let mut alerts = Alerts {
        budgets: !types.is_set(),
        // Asked for by `alerting`, not by a threshold of budgets.
        exceptions: !types.is_set() && (alerting.is_set() || by_type.is_set()),
        posts: Vec::new(),
    };
    for view in types.items() {
        match view.text().as_deref() {
            Some("budget_alerts") => alerts.budgets = true,
            Some("llm_exceptions") => alerts.exceptions = true,
            Some(_) => view.warn(crate::known::ALERTS),
            None => {}
        }
    }
    alerts.budgets |= threshold.is_set();
    let mut post = |url: Secret, shape, budgets, exceptions| {
        alerts.posts.push(AlertPost {
            url,
            shape,
            budgets,
            exceptions,
        });
    };
    for (name, budgets) in [("budget_alerts", true), ("llm_exceptions", false)] {
        for view in by_type.at(name).items() {
            match view.secret() {
                // It would be posted nowhere, and may be another secret.
                Some(url) if !is_url(url.expose()) => {
                    view.error("expected a URL that begins with http:// or https://")
                }
                Some(url) => post(url, AlertShape::Slack, budgets, !budgets),
                None => {}
            }
        }
    }
    for view in alerting.items() {
        let (variable, shape) = match view.text().as_deref() {
            Some("slack") => ("SLACK_WEBHOOK_URL", AlertShape::Slack),
            Some("webhook") => ("WEBHOOK_URL", AlertShape::Webhook),
            Some(_) => {
                view.warn("alerts are not posted there yet; slack and webhook take effect");
                continue;
            }
            None => continue,
        };
        let url = (root.context().env)(variable).filter(|url| !url.trim().is_empty());
        match url {
            Some(url) if !is_url(url.trim()) => view.error(format!(
                "the environment variable {variable} is not a URL that begins with http:// or https://"
            )),
            Some(url) => post(Secret::new(url.trim()), shape, true, true),
            // LiteLLM's Slack webhooks by type need no other one.
            None if shape == AlertShape::Slack && by_type.is_set() => {}
            None => view.warn(format!(
                "the environment variable {variable} is not set: alerts are logged and counted, and not posted"
            )),
        }
    }
    Some(alerts)
}

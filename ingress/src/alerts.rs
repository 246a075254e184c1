//! What an operator is told of: budgets that are nearly or wholly used up, calls that failed for good. Found by
//! comparing numbers that a call has at hand anyway; posted elsewhere. No call waits for an alert, and one that
//! finds the queue full is counted and dropped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use budgets::{Refusal, Scope, ScopeKind};
use config::{AlertPost, AlertShape};
use parking_lot::Mutex;
use schemas::{Micros, NanoUsd, RequestId, Text};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::record::Closed;
use crate::{Error, Gateway, clock};

/// More than anybody reads; a queue has an end.
const QUEUE: usize = 256;
/// What has been told is told again after so long, where it still happens.
const AGAIN_S: i64 = 60;
/// Different things that are remembered as told.
const TOLD_MAX: usize = 4_096;
/// An error is shown up to here.
const SHOWN_MAX: usize = 300;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertKind {
    ThresholdCrossed,
    BudgetCrossed,
    Exception,
    /// Somebody wants to see one arrive.
    Test,
}

impl AlertKind {
    const ALL: [Self; 4] = [
        Self::ThresholdCrossed,
        Self::BudgetCrossed,
        Self::Exception,
        Self::Test,
    ];

    /// LiteLLM's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ThresholdCrossed => "threshold_crossed",
            Self::BudgetCrossed => "budget_crossed",
            Self::Exception => "llm_exceptions",
            Self::Test => "test",
        }
    }
}

/// One alert.
#[derive(Debug, Clone)]
pub struct Alert {
    pub kind: AlertKind,
    pub message: String,
    /// Of a budget: whose, its spend and its limit.
    budget: Option<Budget>,
    /// Where alone it goes; none: everywhere that wants its kind.
    only: Option<AlertShape>,
}

#[derive(Debug, Clone)]
struct Budget {
    kind: ScopeKind,
    /// `key:<hash>`, …; as shown where a refusal tells no more.
    counter: Text,
    shown: Text,
    spend: NanoUsd,
    limit: NanoUsd,
}

impl Alert {
    /// Whether it belongs there.
    #[must_use]
    pub fn goes_to(&self, post: &AlertPost) -> bool {
        match self.kind {
            AlertKind::Exception => post.exceptions,
            AlertKind::ThresholdCrossed | AlertKind::BudgetCrossed => post.budgets,
            AlertKind::Test => self.only == Some(post.shape),
        }
    }

    /// LiteLLM's webhook event.
    #[must_use]
    pub fn webhook(&self) -> Value {
        let mut event = json!({
            "event": self.kind.name(),
            "event_message": self.message,
            "event_group": "proxy",
            "spend": null, "max_budget": null, "token": null, "user_id": null, "team_id": null,
            "key_alias": null, "projected_exceeded_date": null, "projected_spend": null,
        });
        let Some(budget) = &self.budget else {
            return event;
        };
        let id = budget.counter.split_once(':').map(|(_, id)| id);
        event["spend"] = json!(budget.spend);
        event["max_budget"] = json!(budget.limit);
        event["event_group"] = match budget.kind {
            ScopeKind::Key => {
                event["token"] = json!(id);
                event["key_alias"] = json!(budget.shown);
                "key"
            }
            ScopeKind::Team => {
                event["team_id"] = json!(id);
                "team"
            }
            ScopeKind::User => {
                event["user_id"] = json!(id);
                "internal_user"
            }
            ScopeKind::Customer => {
                event["user_id"] = json!(id);
                "customer"
            }
            _ => "proxy",
        }
        .into();
        event
    }
}

/// The watch over all calls.
#[derive(Debug)]
pub struct Alerts {
    rules: config::Alerts,
    /// Millionths of a limit.
    threshold: i128,
    counts: [AtomicU64; AlertKind::ALL.len()],
    dropped: AtomicU64,
    /// What was told, and when.
    told: Mutex<HashMap<Text, Micros>>,
    queue: Sender<Alert>,
    inbox: Mutex<Option<Receiver<Alert>>>,
}

impl Alerts {
    /// None where the configuration asks for no alert.
    #[must_use]
    pub fn of(config: &config::Config) -> Option<Self> {
        let rules = config.alerts.clone()?;
        let (queue, inbox) = channel(QUEUE);
        let share = config.budgets.alert_threshold.to_f64().clamp(0.0, 1.0);
        Some(Self {
            rules,
            threshold: (share * 1e6).round() as i128,
            counts: Default::default(),
            dropped: AtomicU64::new(0),
            told: Mutex::default(),
            queue,
            inbox: Mutex::new(Some(inbox)),
        })
    }

    /// Where alerts come out; for one taker.
    pub fn inbox(&self) -> Option<Receiver<Alert>> {
        self.inbox.lock().take()
    }

    #[must_use]
    pub fn posts(&self) -> &[AlertPost] {
        &self.rules.posts
    }

    /// A call has been charged `amount` on these scopes, and this is what they have spent with it. Of calls at
    /// once exactly one carries a sum over a threshold, wherever the sums are kept.
    pub fn settled(&self, scopes: &[Scope], spends: &[NanoUsd], amount: NanoUsd) {
        if !self.rules.budgets || amount <= NanoUsd::ZERO {
            return;
        }
        for (scope, spend) in scopes.iter().zip(spends) {
            let Some(limit) = scope.limit.filter(|limit| *limit > NanoUsd::ZERO) else {
                continue;
            };
            let before = i128::from(spend.0) - i128::from(amount.0);
            let crosses = |line: i128| before < line && line <= i128::from(spend.0);
            let budget = Budget {
                kind: scope.kind,
                counter: scope.budget.clone(),
                shown: scope.id.clone(),
                spend: *spend,
                limit,
            };
            if crosses(i128::from(limit.0)) {
                self.crossed(AlertKind::BudgetCrossed, budget);
            } else if crosses(i128::from(limit.0) * self.threshold / 1_000_000) {
                self.crossed(AlertKind::ThresholdCrossed, budget);
            }
        }
    }

    /// A call was refused. A budget that refuses has been used up, though its spend is below it.
    pub fn refused(&self, refusal: &Refusal) {
        let Refusal::Budget {
            kind,
            id,
            used,
            limit,
            resets_at,
            by_holds: false,
            ..
        } = refusal
        else {
            return;
        };
        // Once a window.
        let what = format!("{} {id} {}", kind.name(), resets_at.0);
        if self.rules.budgets && self.is_new(&what, i64::MAX) {
            let budget = Budget {
                kind: *kind,
                counter: id.clone(),
                shown: id.clone(),
                spend: *used,
                limit: *limit,
            };
            self.crossed(AlertKind::BudgetCrossed, budget);
        }
    }

    /// A call ended with the failure of a deployment.
    pub fn failed(&self, model: &str, deployment: &str, error: &Error) {
        if !self.rules.exceptions || !matches!(error, Error::Upstream { .. } | Error::Provider(_)) {
            return;
        }
        let code = error.code();
        if !self.is_new(&format!("{deployment} {code}"), AGAIN_S) {
            return;
        }
        let text = error.to_string();
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        self.raise(Alert {
            kind: AlertKind::Exception,
            message: format!(
                "a call to {model} failed at deployment {deployment} with {}: {shown}",
                error.status().as_u16()
            ),
            budget: None,
            only: None,
        });
    }

    /// Sends an alert to see it arrive. False where nobody is told in that way.
    pub fn test(&self, shape: AlertShape) -> bool {
        if !self.rules.posts.iter().any(|post| post.shape == shape) {
            return false;
        }
        self.raise(Alert {
            kind: AlertKind::Test,
            message: "this is a test: alerts of this gateway arrive here".to_owned(),
            budget: None,
            only: Some(shape),
        });
        true
    }

    fn crossed(&self, kind: AlertKind, budget: Budget) {
        let whose = match budget.kind {
            ScopeKind::Global => "the budget over all keys".to_owned(),
            other => format!("the budget of {} {}", other.name(), budget.shown),
        };
        let (spend, limit) = (budget.spend, budget.limit);
        let message = match kind {
            AlertKind::ThresholdCrossed => {
                let share = i128::from(spend.0) * 100 / i128::from(limit.0).max(1);
                format!("{share} % of {whose} are used: {spend} of {limit} USD")
            }
            _ => format!("{whose} is used up: {spend} of {limit} USD"),
        };
        self.raise(Alert {
            kind,
            message,
            budget: Some(budget),
            only: None,
        });
    }

    fn raise(&self, alert: Alert) {
        let at = AlertKind::ALL.iter().position(|kind| *kind == alert.kind);
        if let Some(count) = at.and_then(|at| self.counts.get(at)) {
            count.fetch_add(1, Relaxed);
        }
        if self.queue.try_send(alert).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn is_new(&self, what: &str, again_s: i64) -> bool {
        let now = clock::now();
        let mut told = self.told.lock();
        if let Some(last) = told.get(what)
            && (again_s == i64::MAX || now < last.plus_secs(again_s))
        {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(what.into(), now);
        true
    }

    pub(crate) fn metrics(&self, out: &mut String) {
        let name = "tollgate_alerts_total";
        // Writing into a string cannot fail.
        let _ = writeln!(out, "# HELP {name} Alerts raised.\n# TYPE {name} counter");
        for (kind, count) in AlertKind::ALL.iter().zip(&self.counts) {
            let _ = writeln!(
                out,
                "{name}{{kind=\"{}\"}} {}",
                kind.name(),
                count.load(Relaxed)
            );
        }
        let name = "tollgate_alerts_dropped_total";
        let _ = writeln!(
            out,
            "# HELP {name} Alerts that found the queue full.\n# TYPE {name} counter\n{name} {}",
            self.dropped.load(Relaxed)
        );
    }
}

/// Tells the budgets what a call was charged, and whoever wants to know what that crossed.
pub(crate) async fn finish(
    gateway: &Gateway,
    hold: RequestId,
    closed: Closed,
    now: Micros,
    scopes: &[Scope],
) -> Vec<NanoUsd> {
    let event = Some(closed.event);
    let ended = gateway
        .budgets
        .finish(hold, closed.amount, closed.tokens, now, event);
    let spends = ended.await;
    if let Some(alerts) = &gateway.alerts {
        alerts.settled(scopes, &spends, closed.amount);
    }
    spends
}

#[cfg(test)]
mod tests {
    use super::*;
    use metering::Window;

    fn alerts() -> Alerts {
        let mut config = config::Config {
            alerts: Some(config::Alerts {
                budgets: true,
                exceptions: true,
                posts: Vec::new(),
            }),
            ..config::Config::default()
        };
        config.budgets.alert_threshold = config::DecimalText::new("0.8").unwrap();
        Alerts::of(&config).unwrap()
    }

    #[test]
    fn a_line_is_crossed_by_exactly_one_call() {
        let alerts = alerts();
        let mut inbox = alerts.inbox().unwrap();
        let scope = Scope {
            kind: ScopeKind::Key,
            id: "alice".into(),
            budget: "key:ab".into(),
            limit: Some(NanoUsd(100)),
            window: Window::LIFETIME,
            rpm: None,
            tpm: None,
            parallel: None,
        };
        let mut spend = 0;
        for amount in [30, 49, 1, 5, 14, 1, 3] {
            spend += amount;
            alerts.settled(
                std::slice::from_ref(&scope),
                &[NanoUsd(spend)],
                NanoUsd(amount),
            );
        }
        let told: Vec<_> = std::iter::from_fn(|| inbox.try_recv().ok())
            .map(|alert| (alert.kind, alert.webhook()["token"].clone()))
            .collect();
        assert_eq!(
            told,
            [
                (AlertKind::ThresholdCrossed, json!("ab")),
                (AlertKind::BudgetCrossed, json!("ab")),
            ]
        );
    }
}

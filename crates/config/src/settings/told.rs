//! What operators are told: alerts, and lines of the log.

use crate::Secret;

/// `general_settings.alerting`, `alert_types`, `alert_to_webhook_url`, `budget_alert_threshold`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// A budget has been used up to `budgets.alert_threshold`, or wholly.
    pub budgets: bool,
    /// A call failed for good.
    pub exceptions: bool,
    /// Every alert is logged and counted; here it is posted, too.
    pub posts: Vec<AlertPost>,
}

/// Where alerts are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPost {
    /// A Slack webhook's URL is its key.
    pub url: Secret,
    pub shape: AlertShape,
    pub budgets: bool,
    pub exceptions: bool,
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertShape {
    /// `{"text": "…"}`
    Slack,
    /// LiteLLM's webhook event.
    Webhook,
}

/// `tollgate.log`, `litellm_settings.log_level`, `json_logs`, `set_verbose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info` (default), `debug`, `trace`.
    pub level: LogLevel,
    /// Default `text`.
    pub format: LogFormat,
    /// `litellm_settings.log_to_file`: into a file as well.
    pub file: Option<LogFile>,
    /// `litellm_settings.log_completion_tokens`: a line for each call. Default false.
    pub calls: bool,
}

/// `litellm_settings.log_file_path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFile {
    /// `tollgate.log` in the data directory.
    InDataDir,
    At(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogLevel {
    /// The word that `tracing` knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

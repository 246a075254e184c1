//! The one YAML file, in LiteLLM's shape plus a `tollgate:` section: text in, typed [`Config`] and
//! warnings out. Opens no file and reads no environment variable: both come in as arguments.

mod decimal;
mod error;
mod model;
pub mod providers;
mod secret;
mod settings;

pub use decimal::DecimalText;
pub use error::{ConfigError, ConfigErrors, Warning};
pub use model::{AuthScheme, Dialect, ModelEntry, ModelLimits, ModelTimeouts};
pub use secret::Secret;
pub use settings::{
    Budgets, Cache, ClickHouse, Config, JournalConfig, Kafka, Limits, Log, LogFormat, LogLevel,
    Period, SeedKey, Server, SyncMode, Timeouts,
};

/// A configuration that may be used, and what to tell its writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
}

//! Where log lines go, and how many.

use config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Sets up logging to standard error. `RUST_LOG` wins; `--detailed_debug` raises our own crates to debug.
pub fn start(log: &Log, detailed: bool) {
    let level = if detailed {
        "debug"
    } else {
        log.level.as_str()
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!("{level},hyper=warn,reqwest=warn,h2=warn,ort=warn"))
    });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Text => lines.with_ansi(false).init(),
    }
}

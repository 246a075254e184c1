//! What is printed, how, and where to.

use crate::settings::{Config, LogFile, LogFormat, LogLevel};
use crate::view::View;

pub(super) fn log(root: &View<'_>, config: &mut Config) {
    let litellm = root.at("litellm_settings");
    let level = [root.get("tollgate.log.level"), litellm.at("log_level")]
        .into_iter()
        .find_map(|view| view.text());
    config.log.level = match level.map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("error" | "critical") => LogLevel::Error,
        Some("warn" | "warning") => LogLevel::Warn,
        Some("debug") => LogLevel::Debug,
        Some("trace") => LogLevel::Trace,
        Some(_) => LogLevel::Info,
        None if litellm.at("set_verbose").bool() == Some(true) => LogLevel::Debug,
        None => LogLevel::Info,
    };
    let format = [root.get("tollgate.log.format"), litellm.at("log_format")]
        .into_iter()
        .find_map(|view| view.text());
    let json = format.map_or_else(
        || litellm.at("json_logs").bool() == Some(true),
        |word| word.eq_ignore_ascii_case("json"),
    );
    config.log.format = if json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    let (to_file, path) = (litellm.at("log_to_file"), litellm.at("log_file_path"));
    match (to_file.bool(), path.text()) {
        (Some(true), Some(path)) => config.log.file = Some(LogFile::At(path)),
        (Some(true), None) => config.log.file = Some(LogFile::InDataDir),
        (_, Some(_)) => path.warn("has no effect without log_to_file: true"),
        _ => {}
    }
    config.log.calls = litellm.at("log_completion_tokens").bool() == Some(true);
    for callbacks in [
        "success_callback",
        "failure_callback",
        "callbacks",
        "service_callback",
        "service_callbacks",
    ] {
        for view in litellm.at(callbacks).items() {
            if view.text().is_some_and(|name| name != "prometheus") {
                view.warn(crate::known::CALLBACK);
            }
        }
    }
    for name in ["disable_pii_logging", "turn_off_message_logging"] {
        let view = litellm.at(name);
        if view.bool() == Some(false) {
            view.warn("prompts and answers are never logged");
        }
    }
}

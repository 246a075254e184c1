//! What a person sees when the gateway is up: where it is, and a first call that works as printed.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use config::{Config, Dialect, ModelEntry};

use crate::instance::Running;
use crate::master_key::MasterKey;
use crate::settings;

/// Printed to standard output, once. The only place that ever shows a key, and only one made just now.
pub fn show(running: &Running, key: &MasterKey, config: &Config, data_dir: &Path) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let url = &running.url;
    let data_dir = std::path::absolute(data_dir)?;
    writeln!(out, "\nTollgate {} is up.\n", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  gateway     {url}/v1")?;
    writeln!(out, "  metrics     {url}/metrics")?;
    writeln!(
        out,
        "  ClickHouse  {}  user analyst, password in {}",
        running.clickhouse,
        data_dir.join("analyst.password").display()
    )?;
    writeln!(out, "  data        {}", data_dir.display())?;
    writeln!(out, "  models      {}", models(&config.models))?;
    let key_file = data_dir.join("master.key");
    if let Some(fresh) = &key.fresh {
        writeln!(
            out,
            "\n  master key  {}   (shown this once; kept in {})",
            fresh.expose(),
            key_file.display()
        )?;
    }
    let (bearer, where_from) = match &config.server.master_key {
        None => (
            format!("$(cat {})", quoted(&key_file.display().to_string())),
            "",
        ),
        Some(key) => match settings::variable_of(key) {
            Some(name) => (format!("${name}"), ""),
            // It stands in the file, and is not shown.
            None => (
                "$KEY".to_owned(),
                ", with general_settings.master_key in KEY",
            ),
        },
    };
    if let Some(model) = first_model(&config.models) {
        writeln!(out, "\nA first call{where_from}:\n")?;
        writeln!(out, "  curl {url}/v1/chat/completions \\")?;
        writeln!(
            out,
            "    -H \"Authorization: Bearer {bearer}\" -H 'Content-Type: application/json' \\"
        )?;
        writeln!(
            out,
            "    -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'"
        )?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
}

/// The demo where it is served: it needs no provider.
fn first_model(models: &[ModelEntry]) -> Option<&str> {
    let plain = || models.iter().filter(|entry| !entry.is_wildcard());
    let demo = plain().find(|entry| entry.dialect == Dialect::Demo);
    demo.or_else(|| plain().next())
        .map(|entry| entry.model_name.as_str())
}

fn models(models: &[ModelEntry]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<&str> = Vec::new();
    for entry in models {
        if !names.contains(&entry.model_name.as_str()) {
            names.push(&entry.model_name);
        }
    }
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

/// A word for a shell.
fn quoted(path: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+:,@%".contains(char);
    if path.chars().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_one_word() {
        assert_eq!(
            quoted("/home/ann/.tollgate/master.key"),
            "/home/ann/.tollgate/master.key"
        );
        assert_eq!(quoted("/a b/$c"), "'/a b/$c'");
        assert_eq!(quoted("/ann's"), r"'/ann'\''s'");
    }
}

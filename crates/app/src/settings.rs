//! From flags, file and environment to what a role runs with. The only place that reads the environment.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use config::{Config, Loaded, Secret, Source};

use crate::cli::RoleFlags;
use crate::log;

/// What a role runs with.
pub struct Settings {
    pub config: Config,
    /// What it was made from.
    pub source: Arc<Source>,
    /// The file, where there is one, and its text as [`hash`] knows it.
    pub file: Option<PathBuf>,
    pub text_hash: u64,
    /// Everything that lasts lies below it.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the embedded ClickHouse listens.
    pub clickhouse: SocketAddr,
}

/// Where everything lies that nobody says otherwise of.
pub const DATA_DIR: &str = ".tollgate";

/// Reads everything, starts the log, and says what a file asks for in vain.
pub fn load(flags: &RoleFlags) -> Result<Settings> {
    let (source, text_hash) = read_config(flags)?;
    let Loaded { config, warnings } = source.resolve(&[])?.loaded;
    let data_dir = data_dir(flags, &config);
    fs::create_dir_all(&data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    log::start(&config.log, flags.detailed_debug, &data_dir);
    for warning in config::summary(&warnings) {
        tracing::warn!("{warning}");
    }
    let host: IpAddr = match flags.host {
        Some(host) => host,
        None => address(&config.server.host)?,
    };
    let port = flags.port.unwrap_or(config.server.port);
    let clickhouse = flags.clickhouse_port.unwrap_or(config.clickhouse.port);
    Ok(Settings {
        data_dir,
        listen: SocketAddr::new(host, port),
        clickhouse: SocketAddr::from(([127, 0, 0, 1], clickhouse)),
        source: Arc::new(source),
        file: flags.config.clone(),
        text_hash,
        config,
    })
}

/// What a command needs to find a gateway: its configuration, or only its data directory.
pub fn of_command(config: Option<&Path>, data_dir: Option<&Path>) -> Result<Settings> {
    let flags = RoleFlags {
        config: config.map(Path::to_owned),
        data_dir: data_dir.map(Path::to_owned),
        ..RoleFlags::default()
    };
    let (source, text_hash) = read_config(&flags)?;
    let Loaded { config, .. } = source.resolve(&[])?.loaded;
    Ok(Settings {
        data_dir: self::data_dir(&flags, &config),
        listen: SocketAddr::from(([127, 0, 0, 1], config.server.port)),
        clickhouse: SocketAddr::from(([127, 0, 0, 1], config.clickhouse.port)),
        source: Arc::new(source),
        file: flags.config,
        text_hash,
        config,
    })
}

fn read_config(flags: &RoleFlags) -> Result<(Source, u64)> {
    let Some(path) = &flags.config else {
        let variable = |name: &str| env::var(name).ok();
        let made = config::without_file(&variable, flags.model.as_deref())?;
        return Ok((Source::made(made, variable), 0));
    };
    if flags.model.is_some() {
        bail!(
            "--model is for a start without a file: add the model to {}",
            path.display()
        );
    }
    let text = text_of(path)?;
    let text_hash = hash(&text);
    Ok((source_of(path, text), text_hash))
}

/// Reads one configuration file.
pub fn read(path: &Path) -> Result<Loaded> {
    Ok(source_of(path, text_of(path)?).resolve(&[])?.loaded)
}

/// The same file where variables may be missing, if nothing else is wrong with it.
pub fn read_without_secrets(path: &Path) -> Option<Loaded> {
    let (name, text) = (path.display().to_string(), text_of(path).ok()?);
    let lenient = config::Strictness::AllowMissingVariables;
    config::parse_with(&text, &name, &outside(path), lenient).ok()
}

fn text_of(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))
}

/// The text of a file. `file/PATH` in it is meant from where it lies.
pub fn source_of(path: &Path, text: String) -> Source {
    Source::file(path.display().to_string(), text, outside(path))
}

/// Variables, and texts of files from where a configuration lies.
fn outside(path: &Path) -> impl Fn(&str) -> Option<String> + use<> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    move |name| match name.strip_prefix("file/") {
        Some(file) => fs::read_to_string(folder.join(file)).ok(),
        None => env::var(name).ok(),
    }
}

/// `--data-dir`, else the file's, else `.tollgate` beside the file or in the current folder.
fn data_dir(flags: &RoleFlags, config: &Config) -> PathBuf {
    let beside = flags
        .config
        .as_deref()
        .and_then(|path| path.parent())
        .map(PathBuf::from)
        .unwrap_or_default();
    match (&flags.data_dir, &config.data_dir) {
        (Some(dir), _) => dir.clone(),
        (None, Some(dir)) => beside.join(dir),
        (None, None) => beside.join(DATA_DIR),
    }
}

fn address(host: &str) -> Result<IpAddr> {
    if host == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    // The configuration has been checked; `--host` is an address.
    host.parse()
        .with_context(|| format!("{host} is not an address such as 127.0.0.1 or 0.0.0.0"))
}

/// The variable that holds this secret, for a line that a person can run. One of ours before others.
pub fn variable_of(secret: &Secret) -> Option<String> {
    let holds = |name: &str| env::var(name).is_ok_and(|value| value.trim() == secret.expose());
    let ours = ["TOLLGATE_MASTER_KEY", "LITELLM_MASTER_KEY"];
    if let Some(name) = ours.into_iter().find(|name| holds(name)) {
        return Some(name.to_owned());
    }
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| holds(name)).collect();
    names.sort_unstable();
    names.into_iter().next()
}

/// Tells two versions of a text apart.
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

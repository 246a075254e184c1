//! The usage tables: the embedded engine in a child process, or a server by its URL.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use analytics::Store;
use analytics::embedded::{self, EmbeddedOptions, Supervisor, SupervisorOptions};
use anyhow::{Context, Result};
use config::Secret;

use crate::master_key::{random_text, secret_file};
use crate::settings::Settings;
use crate::stopping::asked_to_stop;

/// The tables, migrated and ready.
pub struct Tables {
    pub store: Store,
    /// Base URL of the HTTP interface.
    pub url: String,
    child: Option<Supervisor>,
}

/// Names of the password files, below the data directory.
const WRITER: &str = "writer.password";
const ANALYST: &str = "analyst.password";
/// A first start makes its folders and tables; later ones take a fraction of a second.
const START: Duration = Duration::from_secs(60);

/// Starts what the configuration asks for. The embedded engine's tables are brought up to date at once; those of
/// a server by the store lane, as soon as it can be reached.
pub async fn start(settings: &Settings) -> Result<Tables> {
    if let Some(url) = &settings.config.clickhouse.url {
        return Ok(Tables {
            store: server(&settings.config.clickhouse)?,
            url: url.clone(),
            child: None,
        });
    }
    let (writer, _) = passwords(&settings.data_dir)?;
    let command = child_command(settings)?;
    let child = Supervisor::start(SupervisorOptions::new(settings.clickhouse), command)?;
    child.wait_ready(START).await?;
    let url = format!("http://{}", settings.clickhouse);
    let store = Store::connect(&url, "tollgate", writer.expose());
    store
        .migrate()
        .await
        .context("cannot bring the usage tables up to date")?;
    Ok(Tables {
        store,
        url,
        child: Some(child),
    })
}

/// The engine that runs over a data directory, as the owner of its tables.
pub fn owner(url: &str, data_dir: &Path) -> Result<Store> {
    let path = data_dir.join(WRITER);
    let password = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Store::connect(url, "tollgate", password.trim()))
}

/// A server of the operator's own.
pub fn server(clickhouse: &config::ClickHouse) -> Result<Store> {
    let url = clickhouse
        .url
        .as_deref()
        .context("tollgate.clickhouse.url: not set")?;
    let user = clickhouse.user.as_deref().unwrap_or("default");
    let password = clickhouse.password.as_ref().map_or("", Secret::expose);
    Ok(Store::connect(url, user, password).with_database(&clickhouse.database))
}

impl Tables {
    /// Ends the child in order.
    pub async fn stop(self) {
        if let Some(child) = self.child {
            child.shutdown().await;
        }
    }
}

/// The child: this executable again, in its role `clickhouse`, over the same folder.
fn child_command(settings: &Settings) -> Result<impl FnMut() -> Command + Send + 'static> {
    let executable = env::current_exe().context("cannot find this executable")?;
    let port = settings.clickhouse.port().to_string();
    let data_dir = settings.data_dir.clone();
    library()?;
    Ok(move || {
        let mut command = Command::new(&executable);
        command
            .arg("clickhouse")
            .arg("--clickhouse-port")
            .arg(&port)
            .arg("--data-dir")
            .arg(&data_dir);
        command
    })
}

/// The role `clickhouse`.
pub async fn serve(settings: &Settings) -> Result<()> {
    let (writer, analyst) = passwords(&settings.data_dir)?;
    let options = EmbeddedOptions {
        data_dir: settings.data_dir.join("clickhouse"),
        listen: settings.clickhouse,
        lib: library()?,
        writer_password: writer.expose().to_owned(),
        analyst_password: analyst.expose().to_owned(),
    };
    let (ready, _) = tokio::sync::oneshot::channel();
    embedded::serve(options, ready, async { drop(asked_to_stop().await) }).await?;
    Ok(())
}

/// Both logins' passwords, made on the first start.
fn passwords(data_dir: &Path) -> Result<(Secret, Secret)> {
    let (writer, _) = secret_file(&data_dir.join(WRITER), random_text)?;
    let (analyst, _) = secret_file(&data_dir.join(ANALYST), random_text)?;
    Ok((writer, analyst))
}

fn library() -> Result<PathBuf> {
    let path = env::var_os("TOLLGATE_LIBCHDB")
        .map(PathBuf::from)
        .context("TOLLGATE_LIBCHDB: not set; start through ./tollgate, which fetches the engine")?;
    anyhow::ensure!(
        path.is_file(),
        "TOLLGATE_LIBCHDB: there is no file {}",
        path.display()
    );
    Ok(path)
}

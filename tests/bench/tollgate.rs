//! The gateway itself, as its users run it: the executable with a configuration file, a priced model,
//! and a virtual key with limits and a hard budget. Everything is on that is on by default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bodies::{self, Model};
use crate::contender::Contender;
use crate::cores::{self, Cores, Running};
use crate::{call, nginx};

const MASTER: &str = "sk-master-of-the-bench";

/// `tollgate.journal.sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    Group,
    Os,
}

impl Sync {
    const fn word(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Os => "os",
        }
    }
}

/// How one of them is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub sync: Sync,
    /// Behind the name of the plain model.
    pub deployments: usize,
    /// `router_settings.routing_strategy`.
    pub strategy: Option<&'static str>,
}

impl Setup {
    pub const fn new(sync: Sync) -> Self {
        Self {
            sync,
            deployments: 1,
            strategy: None,
        }
    }

    pub fn name(self) -> String {
        let Self {
            deployments,
            strategy,
            ..
        } = self;
        let of = match deployments {
            1 => String::new(),
            more => format!(", {more} deployments"),
        };
        let by = strategy.map_or_else(String::new, |strategy| format!(", {strategy}"));
        format!("tollgate, sync {}{of}{by}", self.sync.word())
    }
}

/// The ingress role alone where it runs alone, else everything in one process.
pub fn start(cores: Cores, folder: &Path, provider: SocketAddr, setup: Setup) -> Result<Contender> {
    let executable = executable()?;
    match start_role(&executable, "ingress", cores, folder, provider, setup) {
        Ok(contender) => Ok(contender),
        Err(alone) => start_role(&executable, "up", cores, folder, provider, setup)
            .map_err(|together| together.context(format!("and as an ingress alone: {alone:#}"))),
    }
}

fn start_role(
    executable: &Path,
    role: &str,
    cores: Cores,
    folder: &Path,
    provider: SocketAddr,
    setup: Setup,
) -> Result<Contender> {
    let Setup {
        sync,
        deployments,
        strategy,
    } = setup;
    let kind = strategy.unwrap_or("plain");
    let folder = folder.join(format!("{role}-{}-{deployments}-{kind}", sync.word()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("tollgate.yaml");
    std::fs::write(&file, yaml(provider, setup))?;
    let log = folder.join("log");
    let output = std::fs::File::create(&log)?;
    let address = nginx::free_address()?;
    let child = cores::on(cores.gateway, &executable.to_string_lossy())?
        .args([role, "--port", &address.port().to_string()])
        .args([
            "--clickhouse-port",
            &nginx::free_address()?.port().to_string(),
        ])
        .arg("--config")
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .env_remove("TOLLGATE_MASTER_KEY")
        .env_remove("LITELLM_MASTER_KEY")
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output))
        .spawn()
        .context("start tollgate")?;
    let mut running = Running(child);
    ready(&mut running, address)
        .and_then(|()| key(address))
        .with_context(|| format!("tollgate {role}: {}", last_words(&log)))
        .map(|key| Contender {
            name: format!("{} ({role})", setup.name()),
            plain: address,
            streams: address,
            key,
            running,
        })
}

/// `TOLLGATE_BIN`, else the executable that was built beside this one.
pub fn executable() -> Result<PathBuf> {
    let path = match std::env::var_os("TOLLGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("tollgate"),
    };
    if !path.is_file() {
        bail!("{} is not built", path.display());
    }
    Ok(path)
}

fn yaml(provider: SocketAddr, setup: Setup) -> String {
    let models: String = Model::ALL
        .iter()
        .flat_map(|model| {
            let count = if *model == Model::Plain {
                setup.deployments
            } else {
                1
            };
            (0..count).map(move |nth| (model, nth))
        })
        .map(|(model, nth)| {
            format!(
                "  - model_name: {name}
    litellm_params:
      model: openai/{name}
      api_base: http://{provider}/v1
      api_key: sk-upstream
      input_cost_per_token: 0.00000015
      output_cost_per_token: 0.0000006
    model_info:
      id: {name}-{nth}
      max_input_tokens: 128000
      max_output_tokens: 16384
",
                name = model.name()
            )
        })
        .collect();
    let router = setup.strategy.map_or_else(String::new, |strategy| {
        format!("router_settings:\n  routing_strategy: {strategy}\n")
    });
    format!(
        "model_list:
{models}{router}general_settings:
  master_key: {MASTER}
tollgate:
  journal:
    sync: {}
",
        setup.sync.word()
    )
}

fn ready(running: &mut Running, address: SocketAddr) -> Result<()> {
    let started = Instant::now();
    loop {
        if let Some(status) = running.0.try_wait()? {
            bail!("ended with {status} before it was ready");
        }
        if call::get(address, "/health/readiness").is_ok() {
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(60) {
            bail!("is not ready after a minute");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A virtual key whose limits are all checked and never reached.
fn key(address: SocketAddr) -> Result<String> {
    let body = r#"{"key_alias":"bench","max_budget":1000000,"budget_duration":"30d","rpm_limit":1000000000,"tpm_limit":1000000000000,"max_parallel_requests":100000}"#;
    let answer = call::ask(
        address,
        &bodies::post(address, "/key/generate", MASTER, body),
    )?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let key = answer["key"]
        .as_str()
        .context("no key in the answer of /key/generate")?;
    Ok(key.to_owned())
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

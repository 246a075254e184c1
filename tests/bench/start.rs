//! `bench start`: how soon an ingress with 100,000 keys serves after its start, and how soon a key that was
//! made, blocked or deleted through one ingress holds on another. Over a real broker, Redis and engine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use journal::{EventLog as _, Start};
use kafka::Log;
use schemas::{ConfigEntity, ConfigEvent, Event as _, KeyHash, Partition, Topic};

use crate::arguments::Plan;
use crate::billing::servers::Servers;
use crate::cores::{self, Cores, Running};
use crate::report::{Gate, Table, number};
use crate::{bodies, call, nginx, tollgate};

const MASTER: &str = "sk-master-of-the-bench";
/// Appends that wait for their acknowledgement together.
const TOGETHER: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// Longest start, and longest way of a change, milliseconds.
const MOST: f64 = 1_000.0;

pub fn section(plan: &Plan) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measured(plan))
}

async fn measured(plan: &Plan) -> Result<()> {
    let (keys, changes) = if plan.quick {
        (10_000, 20)
    } else {
        (100_000, 100)
    };
    eprintln!("start: {keys} keys");
    let servers = Servers::start().await?;
    let topics = servers.topics().await?;
    let config = servers.folder.path().join("tollgate.yaml");
    std::fs::write(&config, servers.config(&topics, MASTER))?;
    // Budget state in Redis opens when a budget lane has looked at the log.
    let _billing = Place::new(&servers, "billing", "billing")?.start(&config)?;
    let one = Place::new(&servers, "ingress", "one")?;
    let first = one.start(&config)?;
    make_keys(&topics, one.address, keys).await?;
    drop(first.running);

    let mut table = Table::new(
        &format!("Start of an ingress that knows {keys} keys, milliseconds"),
        &["", "ready after"],
    );
    let two = Place::new(&servers, "ingress", "two")?;
    let from_topic = two.start(&config)?;
    table.row([
        "from the topic alone".to_owned(),
        number(from_topic.took, 0),
    ]);
    // What it knows, it leaves for its next start.
    drop(from_topic.running);
    let mut starts = Vec::new();
    for _ in 0..plan.rounds {
        starts.push(two.start(&config)?.took);
    }
    starts.sort_by(f64::total_cmp);
    let (median, worst) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    table.row(["from its snapshot, median".to_owned(), number(median, 0)]);
    table.row(["from its snapshot, worst".to_owned(), number(worst, 0)]);
    servers.kafka.kill();
    let away = two.start(&config)?;
    table.row([
        "from its snapshot, no broker there".to_owned(),
        number(away.took, 0),
    ]);
    drop(away.running);
    servers.kafka.restart().await;
    let gate = |what, took| Gate::new("start", what, took, MOST, "ms");
    table.print(
        &[],
        &[
            gate("from its snapshot", worst),
            gate("without a broker", away.took),
        ],
    )?;

    let (first, second) = (one.start(&config)?, two.start(&config)?);
    let mut table = Table::new(
        "A change through one ingress, until it holds on another, milliseconds from its request",
        &["", "p50", "p99", "worst"],
    );
    let mut gates = Vec::new();
    let mut waits: [Vec<f64>; 3] = Default::default();
    for number in 0..changes {
        let key = format!("sk-of-the-bench-{number}");
        let steps = [
            ("/key/generate", format!(r#"{{"key":"{key}"}}"#), true),
            ("/key/block", format!(r#"{{"key":"{key}"}}"#), false),
            ("/key/unblock", format!(r#"{{"key":"{key}"}}"#), true),
            ("/key/delete", format!(r#"{{"keys":["{key}"]}}"#), false),
        ];
        for (at, (path, body, holds)) in steps.into_iter().enumerate() {
            let began = Instant::now();
            call::ask(one.address, &bodies::post(one.address, path, MASTER, &body))
                .with_context(|| path)?;
            until(|| Ok(takes(two.address, &key) == holds)).with_context(|| path)?;
            // Unblocking only prepares the deletion.
            let kind = [Some(0), Some(1), None, Some(2)][at];
            if let Some(kind) = kind {
                waits[kind].push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    for (name, mut waits) in ["made", "blocked", "deleted"].into_iter().zip(waits) {
        waits.sort_by(f64::total_cmp);
        let last = waits.len() - 1;
        let p99 = waits[last * 99 / 100];
        table.row([
            format!("a key is {name}"),
            number(waits[last / 2], 1),
            number(p99, 1),
            number(waits[last], 1),
        ]);
        gates.push(Gate::new(name, "worst", waits[last], MOST, "ms"));
    }
    drop((first, second));
    table.print(&[], &gates)
}

/// Where one process lives.
struct Place {
    role: &'static str,
    address: SocketAddr,
    folder: PathBuf,
}

struct Started {
    running: Running,
    /// From the start of its process to its readiness, ms.
    took: f64,
}

impl Place {
    fn new(servers: &Servers, role: &'static str, name: &str) -> Result<Self> {
        let folder = servers.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            role,
            address: nginx::free_address()?,
            folder,
        })
    }

    fn start(&self, config: &Path) -> Result<Started> {
        let log = std::fs::File::create(self.folder.join("log"))?;
        let began = Instant::now();
        let executable = tollgate::executable()?;
        let child = cores::on(Cores::pick()?.gateway, &executable.to_string_lossy())?
            .args([self.role, "--port", &self.address.port().to_string()])
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .env_remove("TOLLGATE_MASTER_KEY")
            .env_remove("LITELLM_MASTER_KEY")
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()?;
        let mut running = Running(child);
        until(|| {
            if let Some(status) = running.0.try_wait()? {
                bail!("the {} ended with {status}", self.role);
            }
            Ok(call::get(self.address, "/health/readiness").is_ok())
        })
        .with_context(|| format!("the {} in {}", self.role, self.folder.display()))?;
        Ok(Started {
            running,
            took: began.elapsed().as_secs_f64() * 1e3,
        })
    }
}

fn takes(address: SocketAddr, key: &str) -> bool {
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    call::ask(address, request.as_bytes()).is_ok()
}

fn until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > PATIENCE {
            bail!("not within a minute");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Makes one key by a call, and as many like it as events, since calls wait for each.
async fn make_keys(topics: &kafka::Settings, address: SocketAddr, count: usize) -> Result<()> {
    let body = r#"{"key":"sk-model-of-all-keys","key_alias":"model-of-all","max_budget":100,"rpm_limit":1000}"#;
    call::ask(
        address,
        &bodies::post(address, "/key/generate", MASTER, body),
    )?;
    let log = Log::new(topics.clone())?;
    let mut reader = log.reader("", &[Topic::Config], Start::Beginning).await?;
    let hash = KeyHash::of("sk-model-of-all-keys").to_string();
    let model = loop {
        let records = reader.next(1_000, PATIENCE).await?;
        if records.is_empty() {
            bail!("the key is not on its topic");
        }
        let events = records
            .iter()
            .filter_map(|record| ConfigEvent::from_body(&record.body).ok());
        let found = events
            .into_iter()
            .find(|event| event.entity == ConfigEntity::Key && *event.id == *hash);
        if let Some(event) = found {
            break event;
        }
    };
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..count {
        let name = KeyHash::of(&format!("sk-of-many-{number}")).to_string();
        let body = model.body.replace(&hash, &name);
        let event = ConfigEvent {
            body: body
                .replace("model-of-all", &format!("alias-{number}"))
                .into(),
            id: name.into(),
            ..model.clone()
        };
        let log = log.clone();
        waiting.spawn(async move {
            let body = Bytes::from(event.body());
            log.append(Topic::Config, Partition(0), body)
                .await
                .map(drop)
        });
        if waiting.len() >= TOGETHER
            && let Some(done) = waiting.join_next().await
        {
            done??;
        }
    }
    while let Some(done) = waiting.join_next().await {
        done??;
    }
    Ok(())
}

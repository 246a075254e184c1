//! The parts that the lanes are measured on: a broker, a Redis and the ClickHouse engine in processes of
//! their own, so that what each of them uses is told apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::Store;
use anyhow::{Context, Result, bail};
use budgets::Budgets;
use journal::{Journal, Options};
use kafka::{Log, Relay};
use schemas::{Partition, Topic};
use tempfile::TempDir;
use test_servers::{Kafka, Process, Redis, free_port, redis::BUDGETS};

use crate::{contender, cpu, tollgate};

/// Longest wait for the relay to bring everything to the broker.
const RELAYED: Duration = Duration::from_secs(300);

pub struct Servers {
    pub kafka: Kafka,
    pub redis: Redis,
    engine: Process,
    engine_url: String,
    engine_password: String,
    pub folder: TempDir,
    worlds: std::cell::Cell<u32>,
}

/// CPU time of each server since its start, µs.
#[derive(Debug, Clone, Copy)]
pub struct Others {
    pub kafka: f64,
    pub redis: f64,
    pub engine: f64,
}

impl Others {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            kafka: self.kafka - earlier.kafka,
            redis: self.redis - earlier.redis,
            engine: self.engine - earlier.engine,
        }
    }
}

impl Servers {
    pub async fn start() -> Result<Self> {
        let folder = contender::folder()?;
        let (port, health) = (free_port(), free_port());
        let data = folder.path().join("engine");
        let log = std::fs::File::create(folder.path().join("engine.log"))?;
        let errors = log.try_clone()?;
        let engine = Process::start(tollgate::executable()?, |command| {
            command
                .args(["clickhouse", "--port", &health.to_string()])
                .args(["--clickhouse-port", &port.to_string(), "--data-dir"])
                .arg(&data)
                .stdin(std::process::Stdio::null())
                .stdout(log)
                .stderr(errors);
        });
        let kafka = Kafka::start_fast().await;
        let redis = Redis::start(BUDGETS).await;
        let password = data.join("writer.password");
        let started = Instant::now();
        let engine_url = format!("http://127.0.0.1:{port}");
        let engine_password = loop {
            let password = std::fs::read_to_string(&password).unwrap_or_default();
            let store = Store::connect(&engine_url, "tollgate", password.trim());
            if !password.is_empty() && store.sql("SELECT 1", "TSV").await.is_ok() {
                break password.trim().to_owned();
            }
            if started.elapsed() > Duration::from_secs(60) {
                bail!("the engine of the usage tables does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Ok(Self {
            kafka,
            redis,
            engine,
            engine_url,
            engine_password,
            folder,
            worlds: std::cell::Cell::new(0),
        })
    }

    /// A name that nothing on these servers has yet.
    pub fn fresh(&self) -> String {
        self.worlds.set(self.worlds.get() + 1);
        format!("bench{}", self.worlds.get())
    }

    /// Topics of their own on the broker.
    pub async fn topics(&self) -> Result<kafka::Settings> {
        let mut settings = kafka::Settings::new(self.kafka.bootstrap());
        settings.topic_prefix = self.fresh();
        kafka::topics::create(&settings).await?;
        Ok(settings)
    }

    /// Budget state that knows of nothing, and admits.
    pub async fn budgets(&self) -> Result<Arc<dyn Budgets>> {
        Ok(Arc::new(self.state(&self.fresh()).await?))
    }

    /// The same state for two clients.
    pub async fn budgets_twice(&self) -> Result<(Arc<dyn Budgets>, Arc<dyn Budgets>)> {
        let name = self.fresh();
        let (one, other) = (self.state(&name).await?, self.state(&name).await?);
        Ok((Arc::new(one), Arc::new(other)))
    }

    async fn state(&self, name: &str) -> Result<budgets::Redis> {
        let settings = budgets::redis::Settings {
            pause: Duration::ZERO,
            ..budgets::redis::Settings::new(self.redis.url(), name)
        };
        Ok(budgets::Redis::start(settings).await?)
    }

    /// Empty usage tables.
    pub async fn store(&self) -> Result<Store> {
        let database = self.fresh();
        let store = Store::connect(&self.engine_url, "tollgate", &self.engine_password);
        let statement = format!("CREATE DATABASE {database}");
        store.sql(&statement, "TSV").await?;
        let store = store.with_database(&database);
        store.migrate().await?;
        Ok(store)
    }

    /// The file of a gateway on these servers.
    pub fn config(&self, topics: &kafka::Settings, master: &str) -> String {
        let prefix = &topics.topic_prefix;
        format!(
            "model_list:
  - model_name: nobody
    litellm_params:
      model: openai/nobody
      api_base: http://127.0.0.1:9/v1
      api_key: sk-upstream
general_settings:
  master_key: {master}
tollgate:
  kafka:
    bootstrap_servers: {}
    topic_prefix: {prefix}
    partitions: {}
  redis:
    url: {}
    prefix: {prefix}
  clickhouse:
    url: {}
    user: tollgate
    password: {}
",
            self.kafka.bootstrap(),
            topics.partitions,
            self.redis.url(),
            self.engine_url,
            self.engine_password,
        )
    }

    pub fn used(&self) -> Others {
        let of = |id: Option<u32>| {
            let spent = id.map(cpu::spent).unwrap_or_default();
            spent.gateway + spent.clickhouse
        };
        Others {
            kafka: of(self.kafka.id()),
            redis: of(self.redis.id()),
            engine: of(Some(self.engine.id())),
        }
    }

    /// Brings events to the broker as an ingress does: through a journal, spread over its partitions, by
    /// the relay. Answers the CPU time that relaying took in this process, ns an event.
    pub async fn fill(
        &self,
        topics: &kafka::Settings,
        bodies: &[Vec<u8>],
        events: usize,
    ) -> Result<f64> {
        let (journal, _) = self.journal(topics)?;
        for at in 0..events {
            let partition = Partition(u16::try_from(at % usize::from(topics.partitions))?);
            journal.append(Topic::Usage, partition, &bodies[at % bodies.len()])?;
        }
        journal.sync()?;
        let before = cpu::own_process();
        let relay = Relay::start(topics.clone(), &journal)?;
        if !relay.drain(RELAYED).await.complete {
            bail!("the broker did not take the events of the bench");
        }
        Ok((cpu::own_process() - before).as_nanos() as f64 / events as f64)
    }

    /// A new journal with as many partitions as the topics.
    pub fn journal(&self, topics: &kafka::Settings) -> Result<(Journal, Log)> {
        let options = Options {
            partitions: topics.partitions,
            ..Options::default()
        };
        let folder = self.folder.path().join(&topics.topic_prefix);
        let (journal, _) = Journal::open(&folder, options).context("a journal")?;
        Ok((journal, Log::new(topics.clone())?))
    }
}

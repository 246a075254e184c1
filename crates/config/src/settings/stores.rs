//! The parts beside the ingress, each in this process or outside of it: cache, log, tables, budget state; and how a
//! process leaves them.

use std::time::Duration;

use crate::{DecimalText, Secret};

/// The answer cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Exact answers. Default false.
    pub enabled: bool,
    /// Similar answers as well. See [`crate::parse`] on when.
    pub semantic: bool,
    /// Nobody gets an answer that another one asked for (`cache_system_prompt_only`). Default false.
    pub per_user: bool,
    /// Cosine similarity from which an answer is taken. Default 0.90.
    pub threshold: DecimalText,
    /// Life of an entry. Default 3600 s.
    pub ttl: Duration,
    /// Memory of the index and the answers. Default 256 MiB.
    pub max_bytes: u64,
    /// Only on request (`cache_params.mode: default_off`).
    pub on_request_only: bool,
    /// Address of a cache-service of its own process. None: in this process.
    pub service_url: Option<String>,
    /// How long a look-up at `service_url` may take before the call goes on without. Default 250 ms.
    pub timeout: Duration,
    /// What callers of a cache-service show it, and what it asks for. None: nothing.
    pub token: Option<Secret>,
    /// Where answers are kept when shared. None: on local disk.
    pub redis_url: Option<Secret>,
}

/// When an appended record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Each record is synced alone.
    Always,
    /// One sync for all records that wait.
    Group,
    /// Page cache: survives a kill, not a power cut.
    Os,
}

/// `tollgate.journal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Default `group`.
    pub sync: SyncMode,
    /// Size of one segment file. Default 16 MiB.
    pub segment_bytes: u64,
    /// Size at which hard budgets are refused. Default 8 GiB.
    pub cap_bytes: u64,
    /// Days that consumed segments are kept, so that every projection can be made again from them. Default 400.
    pub retention_days: u32,
    /// The longest that a group of calls waits for company before one sync serves all; one that is alone
    /// never waits. Default 2000 µs.
    pub group_wait_us: u64,
}

/// `tollgate.clickhouse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouse {
    /// None: the embedded engine on `port`.
    pub url: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Default `default`, the server's own.
    pub database: String,
    /// Port of the embedded engine; `--clickhouse-port` wins. Default 8123.
    pub port: u16,
}

/// `tollgate.kafka`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port,…`
    pub bootstrap_servers: String,
    /// Properties of librdkafka, passed on (TLS, SASL). Values may be secrets.
    pub properties: Vec<(String, Secret)>,
    /// Begin of every topic's name: `tollgate` makes `tollgate.usage.v1`. Default `tollgate`.
    pub topic_prefix: String,
    /// Partitions of requests, usage and cost, chosen when they are made. Config and catalog have one.
    /// Default 64.
    pub partitions: u16,
    /// None: 3, or as many as there are brokers.
    pub replication_factor: Option<u16>,
    /// None: the ids of schemas are a fixed map of our own.
    pub schema_registry_url: Option<String>,
}

/// `tollgate.redis`: where budget state is kept for several ingresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// `redis://…` or `rediss://…`, with its login.
    pub url: Secret,
    /// Begin of every key, and its hash tag. Default `tollgate`.
    pub prefix: String,
    /// Longest wait of a call for an answer. Default 2 s.
    pub wait: Duration,
    /// Certificates in PEM that are trusted to sign the server's. Default those of the system.
    pub ca: Option<Secret>,
}

/// `tollgate.drain`: how a process ends that was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long calls are still taken after readiness says no, so that a load balancer can look away first.
    /// Default none.
    pub lame_duck: Duration,
    /// How long calls in progress may go on, and after them what they left to be billed. Default 20 s.
    pub deadline: Duration,
}

//! The command line. Flags that LiteLLM has keep its names.

use std::net::IpAddr;
use std::path::PathBuf;

use analytics::Dimension;
use clap::{Args, Parser, Subcommand};

/// An LLM gateway that accounts for every token.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, on embedded stores: the way to begin.
    Up(RoleFlags),
    /// The proxy alone: calls in, provider calls out, events appended.
    Ingress(RoleFlags),
    /// The consumer alone: events into the usage tables.
    Billing(RoleFlags),
    /// The answer cache alone, over HTTP.
    Cache(RoleFlags),
    /// The embedded ClickHouse engine behind ClickHouse's HTTP interface.
    Clickhouse(RoleFlags),
    /// Asks the usage tables of a running gateway, as the read-only analyst.
    Sql(SqlFlags),
    /// What was spent, by whom or on what.
    Spend(SpendFlags),
    /// Whether nothing is lost, nothing counted twice, and every sum the same everywhere. Ends with an
    /// error when one event or one nano-dollar is off.
    Audit(AuditFlags),
    /// Events that could not be processed, with the reasons; and bringing them again.
    Dlq(DlqFlags),
    /// Events that are missing from the log, so that what came after them waits.
    #[command(subcommand)]
    Gap(GapCommand),
    /// The price catalog.
    #[command(subcommand)]
    Prices(PricesCommand),
    /// The topics of the log on Kafka.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// The configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Flags of every role; each wins over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct RoleFlags {
    /// The configuration file, in LiteLLM's shape. Without one: the demo model, and every provider
    /// whose API key stands in the environment.
    #[arg(long, short)]
    pub config: Option<PathBuf>,
    /// Port to listen on. Default 4000; of `clickhouse`, 8123.
    #[arg(long)]
    pub port: Option<u16>,
    /// Address to listen on. Default 127.0.0.1.
    #[arg(long, value_parser = host)]
    pub host: Option<IpAddr>,
    /// Serve this model, e.g. openai/gpt-4o, without a file.
    #[arg(long, short)]
    pub model: Option<String>,
    /// Log in detail.
    #[arg(long = "detailed_debug", visible_alias = "detailed-debug")]
    pub detailed_debug: bool,
    /// Where everything that lasts is kept. Default: .tollgate beside the file, or here.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Port of the embedded ClickHouse. Default 8123.
    #[arg(long)]
    pub clickhouse_port: Option<u16>,
}

/// An address, or the name that every machine has for itself.
fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    text.parse()
        .map_err(|_| "not an address such as 127.0.0.1 or 0.0.0.0".to_owned())
}

/// Which running gateway a command speaks to.
#[derive(Debug, Clone, Args)]
pub struct Instance {
    /// The configuration of gateways whose tables are on a server of their own (`tollgate.clickhouse.url`).
    #[arg(long, short)]
    pub config: Option<PathBuf>,
    /// The data directory of the running gateway.
    #[arg(long, default_value = ".tollgate")]
    pub data_dir: PathBuf,
}

/// Where the price catalog is.
#[derive(Debug, Clone, Args)]
pub struct CatalogFlags {
    /// A configuration with `tollgate.kafka`: the catalog on the topic, whatever runs.
    #[arg(long, short)]
    pub config: Option<PathBuf>,
    /// The data directory of the gateway. Default: that of the configuration, else .tollgate.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AuditFlags {
    /// The configuration of the gateway: it tells where Kafka, Redis and ClickHouse are.
    #[arg(long, short)]
    pub config: Option<PathBuf>,
    /// The data directory of the running gateway. Default: as of the configuration.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// How long the lanes get to bring what was there when the audit began, seconds.
    #[arg(long, default_value_t = 30)]
    pub wait: u64,
}

/// Whose log it is.
#[derive(Debug, Clone, Args)]
pub struct Whose {
    /// The configuration of the gateway: it tells where Kafka, Redis and ClickHouse are.
    #[arg(long, short)]
    pub config: Option<PathBuf>,
    /// The data directory of the gateway. Default: as of the configuration.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DlqFlags {
    #[command(subcommand)]
    pub command: Option<DlqCommand>,
    #[command(flatten)]
    pub whose: Whose,
    /// One JSON object a line, with the event's bytes.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Brings events again, to be billed now that it can be done. Done twice it bills once; what is no better
    /// stays, or comes back.
    Retry {
        /// As the list names them: source/partition/number. None: all.
        events: Vec<String>,
        /// How long the lanes get to bring them, seconds.
        #[arg(long, default_value_t = 30)]
        wait: u64,
        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, Subcommand)]
pub enum GapCommand {
    /// What is missing, as far as the log shows it.
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Gives missing events up for good, on the log: each counts as a dead letter with the reason, and what
    /// waits behind them is billed. One that turns up later is not.
    Accept {
        /// As the list names them: source/partition/first-last.
        #[arg(required = true)]
        events: Vec<String>,
        /// Why; it is kept with the letters.
        #[arg(long)]
        reason: String,
        /// How long the lanes get to go on, seconds.
        #[arg(long, default_value_t = 30)]
        wait: u64,
        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, Args)]
pub struct SqlFlags {
    /// One query. Tables: usage_rows, cost_ledger (read money with FINAL).
    pub query: String,
    /// A ClickHouse output format, e.g. PrettyCompact, JSONEachRow, CSVWithNames.
    #[arg(long, default_value = "TabSeparated")]
    pub format: String,
    #[command(flatten)]
    pub instance: Instance,
}

#[derive(Debug, Args)]
pub struct SpendFlags {
    /// team, key, user, model, tag or provider.
    #[arg(long, default_value = "team")]
    pub by: Dimension,
    /// From this day (2026-11-01) or so long ago (7d, 24h). Default: since ever.
    #[arg(long)]
    pub since: Option<String>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub instance: Instance,
}

#[derive(Debug, Subcommand)]
pub enum PricesCommand {
    /// Reads LiteLLM's model_prices_and_context_window.json into the catalog of a stopped gateway.
    Import {
        file: PathBuf,
        /// Take prices that moved more than tenfold.
        #[arg(long)]
        approve_jumps: bool,
        /// Say what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        catalog: CatalogFlags,
    },
    /// The prices in force.
    List {
        #[command(flatten)]
        catalog: CatalogFlags,
    },
}

#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Makes the topics that are missing, and checks that the others keep what they must.
    Create {
        /// The configuration file with `tollgate.kafka`.
        #[arg(long, short)]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Says what a file will do, or what is wrong with it.
    Check { file: PathBuf },
}

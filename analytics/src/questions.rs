//! The standard questions, each a file in `queries/`. Money comes as exact nano-USD.

use std::str::FromStr;

use clickhouse::Row;
use schemas::{Identity, KeyHash, Micros, NanoUsd, Offset, Partition, Pseq, SourceId, Standing};
use serde::{Deserialize, Deserializer};

use crate::error::Error;
use crate::store::{Param, Store};

/// What spend is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Team,
    Key,
    User,
    Model,
    Tag,
    Provider,
}

impl Dimension {
    pub const ALL: [Self; 6] = [
        Self::Team,
        Self::Key,
        Self::User,
        Self::Model,
        Self::Tag,
        Self::Provider,
    ];

    /// The word on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Key => "key",
            Self::User => "user",
            Self::Model => "model",
            Self::Tag => "tag",
            Self::Provider => "provider",
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Team => include_str!("../queries/spend_by_team.sql"),
            Self::Key => include_str!("../queries/spend_by_key.sql"),
            Self::User => include_str!("../queries/spend_by_user.sql"),
            Self::Model => include_str!("../queries/spend_by_model.sql"),
            Self::Tag => include_str!("../queries/spend_by_tag.sql"),
            Self::Provider => include_str!("../queries/spend_by_provider.sql"),
        }
    }
}

/// A word that names no dimension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of team, key, user, model, tag, provider")]
pub struct UnknownDimension(String);

impl FromStr for Dimension {
    type Err = UnknownDimension;

    fn from_str(text: &str) -> Result<Self, UnknownDimension> {
        let found = Self::ALL.into_iter().find(|by| by.name() == text);
        found.ok_or_else(|| UnknownDimension(text.to_owned()))
    }
}

/// A span of time by admission; open ends are `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    pub since: Option<Micros>,
    /// Exclusive.
    pub until: Option<Micros>,
}

impl Span {
    /// `DateTime64` ends in 2299; an open end lies before.
    const END: i64 = 10_000_000_000_000_000;

    fn params(self) -> [(&'static str, Param); 2] {
        let clamp = |micros: Micros| micros.0.clamp(0, Self::END);
        [
            ("since", Param::Int(self.since.map_or(0, clamp))),
            ("until", Param::Int(self.until.map_or(Self::END, clamp))),
        ]
    }
}

/// Spend of one team, key, user, …
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
pub struct SpendRow {
    /// Empty where the calls had none.
    pub name: String,
    /// Latest alias of a key.
    pub alias: String,
    pub requests: u64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    #[serde(deserialize_with = "nano")]
    pub spend: NanoUsd,
    /// What cache hits would have cost.
    #[serde(deserialize_with = "nano")]
    pub saved: NanoUsd,
}

/// With what a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Key(KeyHash),
    /// The master key, which no row names.
    Master,
}

/// Which calls, for `/spend/logs`. Empty means all.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    pub span: Span,
    pub caller: Option<Caller>,
    pub user_id: Option<String>,
    /// Ours, or the one that the client gave its call (`x-litellm-call-id`).
    pub request_id: Option<String>,
}

impl LogFilter {
    fn params(&self) -> Vec<(&'static str, Param)> {
        let text = |text: Option<String>| Param::Text(text.unwrap_or_default());
        let mut params = Vec::from(self.span.params());
        let caller = match self.caller {
            None => "all".to_owned(),
            Some(Caller::Master) => String::new(),
            Some(Caller::Key(key)) => key.to_string(),
        };
        params.push(("key_hash", Param::Text(caller)));
        params.push(("user_id", text(self.user_id.clone())));
        params
    }
}

/// Spend of one user with one model and key on one day.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
pub struct DayRow {
    /// `2026-01-31`, UTC.
    pub day: String,
    pub user_id: String,
    pub model: String,
    pub key_hash: String,
    pub requests: u64,
    #[serde(deserialize_with = "nano")]
    pub spend: NanoUsd,
}

/// One attempt with its cost.
#[derive(Debug, Clone, PartialEq, Row, Deserialize)]
pub struct LogRow {
    pub request_id: String,
    pub call_id: String,
    #[serde(deserialize_with = "micros")]
    pub started: Micros,
    #[serde(deserialize_with = "micros")]
    pub ended: Micros,
    pub ttft_us: u64,
    pub org: String,
    pub team_id: String,
    pub user_id: String,
    pub key_hash: String,
    pub key_alias: String,
    pub end_user: String,
    pub tags: Vec<String>,
    pub model_requested: String,
    pub model: String,
    pub provider: String,
    pub deployment_id: String,
    pub attempt_no: u32,
    pub last: bool,
    pub outcome: String,
    pub estimated: bool,
    pub stream: bool,
    pub status: u16,
    pub error_code: String,
    pub finish_reason: String,
    pub input_tokens: i64,
    pub cached_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub cache_kind: String,
    pub cache_similarity: f32,
    pub priced: bool,
    #[serde(deserialize_with = "nano")]
    pub saved: NanoUsd,
    #[serde(deserialize_with = "nano")]
    pub spend: NanoUsd,
}

#[derive(Row, Deserialize)]
struct HighWaterRow {
    source_id: u64,
    kpart: u16,
    pseq: u64,
}

#[derive(Row, Deserialize)]
struct BudgetRow {
    budget_id: String,
    window_start: i64,
    used: i64,
}

/// A high-water mark per source and partition, as the questions take it.
pub(crate) fn vector(marks: &[Identity]) -> [(&'static str, Param); 3] {
    let numbers = |of: fn(&Identity) -> u64| Param::Numbers(marks.iter().map(of).collect());
    [
        ("sources", numbers(|mark| mark.source_id.0)),
        ("parts", numbers(|mark| u64::from(mark.partition.0))),
        ("reached", numbers(|mark| mark.pseq.0)),
    ]
}

fn nano<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NanoUsd, D::Error> {
    i64::deserialize(deserializer).map(NanoUsd)
}

fn micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    i64::deserialize(deserializer).map(Micros)
}

#[derive(Row, Deserialize)]
struct OffsetRow {
    kpart: u16,
    next: u64,
}

impl Store {
    /// Where the store lane reads on: [`high_water`](Self::high_water), and the offsets of a broker that
    /// are true at these marks.
    ///
    /// # Errors
    /// As any question.
    pub async fn standing(&self) -> Result<Standing, Error> {
        // Offsets are written after the marks that they rest on, so they are read before.
        let sql = include_str!("../queries/offsets.sql");
        let offsets: Vec<OffsetRow> = self.fetch(sql, &[]).await?;
        Ok(Standing {
            marks: self.high_water().await?,
            next: offsets
                .into_iter()
                .map(|row| (Partition(row.kpart), Offset(row.next)))
                .collect(),
        })
    }

    /// Up to where the ledger holds every event of each source; see `queries/high_water.sql`.
    ///
    /// # Errors
    /// As any question.
    pub async fn high_water(&self) -> Result<Vec<Identity>, Error> {
        let sql = include_str!("../queries/high_water.sql");
        let rows: Vec<HighWaterRow> = self.fetch(sql, &[]).await?;
        let mark = |row: HighWaterRow| Identity {
            source_id: SourceId(row.source_id),
            partition: Partition(row.kpart),
            pseq: Pseq(row.pseq),
        };
        Ok(rows.into_iter().map(mark).collect())
    }

    /// What each budget window has used, counting events up to these marks only: (budget, first
    /// instant of the window, amount). The log continues from there.
    ///
    /// # Errors
    /// As any question.
    pub async fn budget_sums(
        &self,
        marks: &[Identity],
    ) -> Result<Vec<(String, Micros, NanoUsd)>, Error> {
        let params = vector(marks);
        let sql = include_str!("../queries/budget_sums.sql");
        let rows: Vec<BudgetRow> = self.fetch(sql, &params).await?;
        let sum = |row: BudgetRow| (row.budget_id, Micros(row.window_start), NanoUsd(row.used));
        Ok(rows.into_iter().map(sum).collect())
    }

    /// Spend by one dimension, highest first.
    ///
    /// # Errors
    /// As any question.
    pub async fn spend(&self, by: Dimension, span: Span) -> Result<Vec<SpendRow>, Error> {
        self.fetch(by.sql(), &span.params()).await
    }

    /// Spend per day, user, model and key. Of one request there is no such sum: its id is not looked at.
    ///
    /// # Errors
    /// As any question.
    pub async fn spend_days(&self, filter: &LogFilter) -> Result<Vec<DayRow>, Error> {
        let sql = include_str!("../queries/spend_days.sql");
        self.fetch(sql, &filter.params()).await
    }

    /// Single attempts, newest first.
    ///
    /// # Errors
    /// As any question.
    pub async fn spend_logs(
        &self,
        filter: &LogFilter,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<LogRow>, Error> {
        let sql = include_str!("../queries/spend_logs.sql");
        let mut params = filter.params();
        let asked = filter.request_id.clone().unwrap_or_default();
        params.push(("request_id", Param::Text(asked)));
        params.push(("limit", Param::Int(limit.into())));
        params.push(("offset", Param::Int(offset.into())));
        self.fetch(sql, &params).await
    }
}

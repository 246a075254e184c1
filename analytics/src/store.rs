//! The client of the tables: migrations, inserts, and the raw door for `tollgate sql`.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Row};
use serde::Deserialize;

use crate::batch::{Batch, Rows};
use crate::error::Error;
use crate::rows::{CostRow, UsageRow};

/// In the order they are run. A published one is never edited.
const MIGRATIONS: &[(u32, &str, &str)] = &[
    (1, "usage", include_str!("../migrations/0001_usage.sql")),
    (2, "offsets", include_str!("../migrations/0002_offsets.sql")),
    (3, "stages", include_str!("../migrations/0003_stages.sql")),
];

/// Longest wait for one insert; the lanes' own patience is longer.
const INSERT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a question of ours.
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);

/// The usage tables, embedded or on a server: the same statements either way.
#[derive(Clone)]
pub struct Store {
    client: Client,
}

#[derive(Row, Deserialize)]
struct Version {
    version: u32,
}

#[derive(Row, Deserialize)]
struct ColumnType {
    name: String,
    r#type: String,
}

impl Store {
    /// A client of `url` (`http://127.0.0.1:8123`). Connects with the first question.
    #[must_use]
    pub fn connect(url: &str, user: &str, password: &str) -> Self {
        let client = Client::default()
            .with_url(url)
            .with_user(user)
            .with_password(password);
        Self { client }
    }

    /// The same in another database than `default`.
    #[must_use]
    pub fn with_database(mut self, database: &str) -> Self {
        self.client = self.client.with_database(database);
        self
    }

    /// Brings the tables to this version and checks that their columns are the ones we write.
    ///
    /// Safe to run again and by two at once.
    ///
    /// # Errors
    /// Unreachable, refused, or tables of another version.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations \
             (version UInt32, name String, applied_at DateTime DEFAULT now()) \
             ENGINE = ReplacingMergeTree ORDER BY version \
             SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
        )
        .await?;
        let applied: Vec<Version> = self
            .fetch("SELECT DISTINCT version FROM schema_migrations", &[])
            .await?;
        for (version, name, text) in MIGRATIONS {
            if applied.iter().any(|row| row.version == *version) {
                continue;
            }
            for statement in statements(text) {
                self.execute(&statement).await?;
            }
            self.execute(&format!(
                "INSERT INTO schema_migrations (version, name) VALUES ({version}, '{name}')"
            ))
            .await?;
        }
        self.check(UsageRow::TABLE, UsageRow::COLUMNS).await?;
        self.check(CostRow::TABLE, CostRow::COLUMNS).await
    }

    /// Puts a batch into the tables. The batch stays as it was: after an error that is not poison,
    /// send it again.
    ///
    /// Usage first, then cost, then the marks, then the offsets: a crash in between leaves nothing that
    /// [`Store::standing`] counts, or a whole month that it rightly counts.
    ///
    /// # Errors
    /// See [`Error::is_poison`]. Part of the batch may be in.
    pub async fn insert(&self, batch: &Batch) -> Result<(), Error> {
        for rows in batch.usage.values() {
            self.insert_rows(UsageRow::TABLE, UsageRow::COLUMNS, rows)
                .await?;
        }
        for rows in batch.cost.values() {
            self.insert_rows(CostRow::TABLE, CostRow::COLUMNS, rows)
                .await?;
        }
        self.insert_marks(batch).await?;
        self.insert_offsets(batch).await
    }

    async fn insert_marks(&self, batch: &Batch) -> Result<(), Error> {
        if batch.marks.is_empty() {
            return Ok(());
        }
        let mut marks = Vec::with_capacity(batch.marks.len() * 18);
        for ((source, partition), pseq) in &batch.marks {
            marks.extend_from_slice(&source.0.to_le_bytes());
            marks.extend_from_slice(&partition.0.to_le_bytes());
            marks.extend_from_slice(&pseq.0.to_le_bytes());
        }
        let columns = &[("source_id", ""), ("kpart", ""), ("pseq", "")];
        self.insert_rows("lane_marks", columns, &Rows::small(marks))
            .await
    }

    async fn insert_offsets(&self, batch: &Batch) -> Result<(), Error> {
        if batch.next.is_empty() {
            return Ok(());
        }
        let mut offsets = Vec::with_capacity(batch.next.len() * 10);
        for (partition, next) in &batch.next {
            offsets.extend_from_slice(&partition.0.to_le_bytes());
            offsets.extend_from_slice(&next.0.to_le_bytes());
        }
        let columns = &[("kpart", ""), ("next", "")];
        self.insert_rows("lane_offsets", columns, &Rows::small(offsets))
            .await
    }

    async fn insert_rows(
        &self,
        table: &str,
        columns: &[(&str, &str)],
        rows: &Rows,
    ) -> Result<(), Error> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let sql = format!(
            "INSERT INTO {table} ({}) FORMAT RowBinary",
            names.join(", ")
        );
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            // Defaults differ by version. Deduplication would swallow a replay that repairs a loss.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "0")
            .with_setting("wait_end_of_query", "1")
            // One block, so that the insert is atomic.
            .with_setting("input_format_parallel_parsing", "0")
            .with_setting("max_insert_block_size", "10000000")
            .with_timeouts(Some(INSERT_TIMEOUT), Some(INSERT_TIMEOUT));
        for piece in rows.pieces() {
            insert.send(piece).await?;
        }
        insert.end().await?;
        Ok(())
    }

    /// Runs a statement as it stands and gives its answer in `format`, piece by piece. A `FORMAT`
    /// in the text wins.
    ///
    /// # Errors
    /// Unreachable, or what ClickHouse says about the statement.
    pub async fn sql(&self, text: &str, format: &str) -> Result<Answer, Error> {
        let text = text.trim().trim_end_matches(';');
        let mut cursor = self.client.query_raw(text).fetch_bytes(format)?;
        // The first piece tells whether it was refused, before anything is printed.
        let first = cursor.next().await?;
        Ok(Answer { first, cursor })
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Error> {
        let running = self.client.query_raw(sql).execute();
        match tokio::time::timeout(QUERY_TIMEOUT, running).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Error::TimedOut(QUERY_TIMEOUT)),
        }
    }

    pub(crate) async fn fetch<T>(
        &self,
        sql: &str,
        params: &[(&str, Param)],
    ) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        // A key lies in one partition, since its time is part of it: `FINAL` need not look across them. In the
        // URL and not in the question, where a locked session refuses every setting.
        let mut query = self
            .client
            .query_raw(sql)
            .with_setting("do_not_merge_across_partitions_select_final", "1");
        for (name, value) in params {
            query = match value {
                Param::Text(text) => query.param(name, text),
                Param::Int(number) => query.param(name, number),
                Param::Numbers(numbers) => query.param(name, numbers),
            };
        }
        match tokio::time::timeout(QUERY_TIMEOUT, query.fetch_all()).await {
            Ok(rows) => Ok(rows?),
            Err(_) => Err(Error::TimedOut(QUERY_TIMEOUT)),
        }
    }

    /// Once at start instead of once per insert: validation in the crate costs up to three times
    /// the insert.
    async fn check(&self, table: &'static str, expected: &[(&str, &str)]) -> Result<(), Error> {
        let rows: Vec<ColumnType> = self
            .fetch(
                "SELECT name, type FROM system.columns \
                 WHERE database = currentDatabase() AND table = {table:String}",
                &[("table", Param::Text(table.to_owned()))],
            )
            .await?;
        for (name, expected) in expected {
            let found = rows.iter().find(|row| row.name == *name);
            let detail = match found {
                Some(row) if row.r#type == *expected => continue,
                Some(row) => format!("column {name} is {}, not {expected}", row.r#type),
                None => format!("column {name} is missing"),
            };
            return Err(Error::Schema { table, detail });
        }
        Ok(())
    }
}

/// Value of a `{name:Type}` in a question.
pub(crate) enum Param {
    Text(String),
    Int(i64),
    Numbers(Vec<u64>),
}

/// The answer of [`Store::sql`], piece by piece.
pub struct Answer {
    first: Option<Bytes>,
    cursor: clickhouse::query::BytesCursor,
}

impl Answer {
    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or ClickHouse gave up half way.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => Ok(self.cursor.next().await?),
        }
    }
}

/// Statements of a migration: each ends with `;` at the end of a line. Comment lines go.
fn statements(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let statements = text.split(";\n").map(str::trim);
    statements
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_migration_is_cut_into_its_statements() {
        let text = "-- a; comment;\nCREATE a (\n  x -- ; kept\n);\n\nCREATE b;\n";
        assert_eq!(
            super::statements(text),
            ["CREATE a (\n  x -- ; kept\n)", "CREATE b"]
        );
    }
}

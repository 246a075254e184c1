//! Questions of the audit: which events have rows, and what the ledger holds of spans of them.

use clickhouse::Row;
use schemas::{Identity, Partition, Pseq, SourceId};
use serde::Deserialize;

use crate::error::Error;
use crate::questions::vector;
use crate::store::{Param, Store};

/// How many events of one source and partition have rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Row, Deserialize)]
pub struct Presence {
    pub source_id: u64,
    pub kpart: u16,
    pub usage_rows: u64,
    /// Fewer than rows: one event lies under two keys.
    pub usage_events: u64,
    pub cost_rows: u64,
    pub cost_events: u64,
    /// Last records of their calls.
    pub ended: u64,
}

/// Events `first` to `last` of one source and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventSpan {
    pub source: SourceId,
    pub partition: Partition,
    pub first: Pseq,
    pub last: Pseq,
}

/// What the ledger holds of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanSum {
    pub span: EventSpan,
    pub events: u64,
    /// Nano-USD, of first ratings.
    pub sum: i128,
    /// Sum modulo 2⁶⁴ of xxh3 over identity and amount, little-endian.
    pub print: u64,
}

#[derive(Row, Deserialize)]
struct TailRow {
    source_id: u64,
    kpart: u16,
    pseq: u64,
}

#[derive(Row, Deserialize)]
struct HoleRow {
    first: u64,
    last: u64,
}

#[derive(Row, Deserialize)]
struct SpanRow {
    source_id: u64,
    kpart: u16,
    first: u64,
    last: u64,
    events: u64,
    nano_usd: String,
    print: u64,
}

impl Store {
    /// The last event of each source that has a row, whatever lies before it.
    ///
    /// # Errors
    /// As any question.
    pub async fn tails(&self) -> Result<Vec<Identity>, Error> {
        let sql = include_str!("../queries/audit_tails.sql");
        let rows: Vec<TailRow> = self.fetch(sql, &[]).await?;
        let tail = |row: TailRow| Identity {
            source_id: SourceId(row.source_id),
            partition: Partition(row.kpart),
            pseq: Pseq(row.pseq),
        };
        Ok(rows.into_iter().map(tail).collect())
    }

    /// How many events have rows, of those up to these marks.
    ///
    /// # Errors
    /// As any question.
    pub async fn presence(&self, marks: &[Identity]) -> Result<Vec<Presence>, Error> {
        let sql = include_str!("../queries/audit_presence.sql");
        self.fetch(sql, &vector(marks)).await
    }

    /// The first few spans of numbers up to the mark that have no row in the ledger.
    ///
    /// # Errors
    /// As any question.
    pub async fn holes(&self, mark: &Identity) -> Result<Vec<(Pseq, Pseq)>, Error> {
        let sql = include_str!("../queries/audit_holes.sql");
        // As text: a source id may have all 64 bits.
        let params = [
            ("source", Param::Text(mark.source_id.0.to_string())),
            ("part", Param::Int(i64::from(mark.partition.0))),
            ("reached", Param::Text(mark.pseq.0.to_string())),
        ];
        let rows: Vec<HoleRow> = self.fetch(sql, &params).await?;
        let hole = |row: HoleRow| (Pseq(row.first), Pseq(row.last));
        Ok(rows.into_iter().map(hole).collect())
    }

    /// What the ledger holds of each span; none for a span without a row.
    ///
    /// # Errors
    /// As any question.
    pub async fn span_sums(&self, spans: &[EventSpan]) -> Result<Vec<SpanSum>, Error> {
        let numbers = |of: fn(&EventSpan) -> u64| Param::Numbers(spans.iter().map(of).collect());
        let params = [
            ("sources", numbers(|span| span.source.0)),
            ("parts", numbers(|span| u64::from(span.partition.0))),
            ("firsts", numbers(|span| span.first.0)),
            ("lasts", numbers(|span| span.last.0)),
        ];
        let sql = include_str!("../queries/audit_spans.sql");
        let rows: Vec<SpanRow> = self.fetch(sql, &params).await?;
        let sum = |row: SpanRow| SpanSum {
            span: EventSpan {
                source: SourceId(row.source_id),
                partition: Partition(row.kpart),
                first: Pseq(row.first),
                last: Pseq(row.last),
            },
            events: row.events,
            // Of ClickHouse's own making: a number.
            sum: row.nano_usd.parse().unwrap_or(i128::MIN),
            print: row.print,
        };
        Ok(rows.into_iter().map(sum).collect())
    }
}

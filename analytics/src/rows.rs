//! The rows of the two tables and how they are written in `RowBinary`.
//!
//! One list per table gives the struct, the column names of the `INSERT`, the types that the table
//! must have, and the order of the bytes. Does no IO.

use schemas::{
    AttemptView, AttoUsd, BudgetRefView, CacheKind, KeyHash, Meters, Micros, NanoUsd, Outcome,
    Partition, Pseq, RequestId, SourceId,
};

/// A value as `RowBinary` has it, little-endian.
/// <https://clickhouse.com/docs/interfaces/formats/RowBinary>
trait Column {
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! plain_columns {
    ($($type:ty: |$value:ident| $bytes:expr;)*) => {$(
        impl Column for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let $value = self;
                out.extend_from_slice(&$bytes);
            }
        }
    )*};
}

plain_columns! {
    bool: |value| [u8::from(*value)];
    u16: |value| value.to_le_bytes();
    u32: |value| value.to_le_bytes();
    u64: |value| value.to_le_bytes();
    i64: |value| value.to_le_bytes();
    f32: |value| value.to_le_bytes();
    Micros: |value| value.0.to_le_bytes();
    SourceId: |value| value.0.to_le_bytes();
    Partition: |value| value.0.to_le_bytes();
    Pseq: |value| value.0.to_le_bytes();
    // Decimal(18, 9) and Decimal(38, 18) are their scaled integers.
    NanoUsd: |value| value.0.to_le_bytes();
    AttoUsd: |value| value.0.to_le_bytes();
    Outcome: |value| [match value {
        Outcome::Unknown => 0,
        Outcome::Ok => 1,
        Outcome::Error => 2,
        Outcome::Cancelled => 3,
        Outcome::Abandoned => 4,
        Outcome::CacheHit => 5,
    }];
    CacheKind: |value| [match value {
        CacheKind::None => 0,
        CacheKind::Exact => 1,
        CacheKind::Semantic => 2,
    }];
}

impl Column for RequestId {
    /// Two halves, the high one first, each little-endian.
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.0[..8].iter().rev());
        out.extend(self.0[8..].iter().rev());
    }
}

fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

impl Column for &str {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
}

impl Column for Option<&str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.unwrap_or_default().as_bytes(), out);
    }
}

impl Column for Option<KeyHash> {
    /// As hex.
    fn put(&self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let Some(KeyHash(hash)) = self else {
            return out.push(0);
        };
        put_length(hash.len() * 2, out);
        out.extend(
            hash.iter()
                .flat_map(|byte| [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)])),
        );
    }
}

/// A `String` column takes any bytes.
impl Column for &[u8] {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }
}

impl Column for &[&str] {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for text in *self {
            text.put(out);
        }
    }
}

impl Column for AttemptView<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        self.deployment.put(out);
        self.provider.put(out);
        self.model.put(out);
        self.why.put(out);
        self.failure.put(out);
        u16::try_from(self.status).unwrap_or(0).put(out);
        self.wait_us.put(out);
        self.took_us.put(out);
    }
}

impl Column for &[AttemptView<'_>] {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for attempt in *self {
            attempt.put(out);
        }
    }
}

impl Column for Option<RequestId> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(id) => put_bytes(id.to_string().as_bytes(), out),
            None => out.push(0),
        }
    }
}

/// The names of budgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Names<'a>(pub &'a [BudgetRefView<'a>]);

impl Column for Names<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.0.len(), out);
        for window in self.0 {
            window.budget.put(out);
        }
    }
}

/// The first instants of budgets' windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Starts<'a>(pub &'a [BudgetRefView<'a>]);

impl Column for Starts<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.0.len(), out);
        for window in self.0 {
            window.window_start.put(out);
        }
    }
}

impl Column for &Meters {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.0.len(), out);
        for quantity in &self.0 {
            put_bytes(quantity.meter.name().as_bytes(), out);
            quantity.quantity.put(out);
        }
    }
}

macro_rules! table {
    (
        $(#[$doc:meta])*
        pub struct $row:ident<$life:lifetime> in $table:literal {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $sql:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $row<$life> {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $row<'_> {
            pub(crate) const TABLE: &'static str = $table;
            /// Names and types, in the order of the bytes.
            pub(crate) const COLUMNS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), $sql),)*];

            pub(crate) fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
        }
    };
}

table! {
    /// What one attempt used.
    pub struct UsageRow<'a> in "usage_rows" {
        /// Admission of the call: decides day and partition. Never changes for an event.
        ts: Micros = "DateTime64(6, 'UTC')",
        ended_at: Micros = "DateTime64(6, 'UTC')",
        source_id: SourceId = "UInt64",
        kpart: Partition = "UInt16",
        pseq: Pseq = "UInt64",
        request_id: RequestId = "UUID",
        call_id: Option<&'a str> = "String",
        org: &'a str = "String",
        team_id: Option<&'a str> = "String",
        user_id: Option<&'a str> = "String",
        /// Lower-case hex.
        key_hash: Option<KeyHash> = "String",
        key_alias: Option<&'a str> = "String",
        end_user: Option<&'a str> = "String",
        tags: &'a [&'a str] = "Array(String)",
        model_requested: &'a str = "String",
        /// As the provider calls the one that served.
        model: &'a str = "String",
        provider: &'a str = "String",
        deployment_id: &'a str = "String",
        service_tier: Option<&'a str> = "String",
        attempt_no: u32 = "UInt32",
        /// The last record of its call: one per request.
        last: bool = "Bool",
        outcome: Outcome = "Enum8('unknown' = 0, 'ok' = 1, 'error' = 2, 'cancelled' = 3, 'abandoned' = 4, 'cache_hit' = 5)",
        estimated: bool = "Bool",
        mismatch: bool = "Bool",
        stream: bool = "Bool",
        /// 0: none was sent.
        status: u16 = "UInt16",
        error_code: Option<&'a str> = "String",
        finish_reason: Option<&'a str> = "String",
        catalog_version: u64 = "UInt64",
        /// Disjoint quantities.
        meters: &'a Meters = "Map(String, Int64)",
        /// All tokens of the prompt, cached ones included.
        input_tokens: i64 = "Int64",
        cached_tokens: i64 = "Int64",
        /// All tokens of the answer, reasoning included.
        output_tokens: i64 = "Int64",
        reasoning_tokens: i64 = "Int64",
        /// To the first byte of the answer; 0 where none came.
        ttft_us: u64 = "UInt64",
        duration_us: u64 = "UInt64",
        cache_kind: CacheKind = "Enum8('none' = 0, 'exact' = 1, 'semantic' = 2)",
        cache_similarity: f32 = "Float32",
        /// What a cache hit would have cost.
        saved: NanoUsd = "Decimal(18, 9)",
        hold: NanoUsd = "Decimal(18, 9)",
        /// Whether every meter had a price.
        priced: bool = "Bool",
        unpriced_reason: Option<&'a str> = "String",
        /// The provider's usage object as received.
        provider_usage: &'a [u8] = "String",
        auth_us: u64 = "UInt64",
        route_us: u64 = "UInt64",
        admit_us: u64 = "UInt64",
        cache_us: u64 = "UInt64",
        /// 0 where a kept connection was used.
        connect_us: u64 = "UInt64",
        /// All of the call, with its last record; empty where there was one.
        attempts: &'a [AttemptView<'a>] = "Array(Tuple(deployment String, provider String, model String, why String, failure String, status UInt16, wait_us UInt64, took_us UInt64))",
        /// How a long prompt was made shorter.
        compression: Option<&'a str> = "String",
        tokens_before: u64 = "UInt64",
        tokens_after: u64 = "UInt64",
        /// `request_id` of the call that this one was made for.
        parent_id: Option<RequestId> = "String",
        /// JSON, as the caller sent it.
        metadata: Option<&'a str> = "String",
    }
}

table! {
    /// One rating of an attempt, or the difference that a later rating makes. Carries whom it is
    /// booked to, so that questions about money need no join.
    pub struct CostRow<'a> in "cost_ledger" {
        /// As in its [`UsageRow`].
        ts: Micros = "DateTime64(6, 'UTC')",
        source_id: SourceId = "UInt64",
        kpart: Partition = "UInt16",
        pseq: Pseq = "UInt64",
        /// 0 for the first rating, then counted up.
        rating_seq: u32 = "UInt32",
        request_id: RequestId = "UUID",
        org: &'a str = "String",
        team_id: Option<&'a str> = "String",
        user_id: Option<&'a str> = "String",
        key_hash: Option<KeyHash> = "String",
        key_alias: Option<&'a str> = "String",
        end_user: Option<&'a str> = "String",
        tags: &'a [&'a str] = "Array(String)",
        model_requested: &'a str = "String",
        model: &'a str = "String",
        provider: &'a str = "String",
        deployment_id: &'a str = "String",
        outcome: Outcome = "Enum8('unknown' = 0, 'ok' = 1, 'error' = 2, 'cancelled' = 3, 'abandoned' = 4, 'cache_hit' = 5)",
        last: bool = "Bool",
        /// Signed; zero where unpriced.
        amount: NanoUsd = "Decimal(18, 9)",
        /// Before rounding.
        exact: AttoUsd = "Decimal(38, 18)",
        priced: bool = "Bool",
        /// Why unpriced, or why rated again.
        reason: Option<&'a str> = "String",
        catalog_version: u64 = "UInt64",
        hold: NanoUsd = "Decimal(18, 9)",
        saved: NanoUsd = "Decimal(18, 9)",
        input_tokens: i64 = "Int64",
        output_tokens: i64 = "Int64",
        /// Budgets charged, and the first instant of the window of each.
        budget_id: Names<'a> = "Array(String)",
        window_start: Starts<'a> = "Array(DateTime64(6, 'UTC'))",
    }
}

/// Year and month of an instant, as `toYYYYMM` counts them.
/// Howard Hinnant's `civil_from_days`: <https://howardhinnant.github.io/date_algorithms.html>
pub(crate) fn month_of(ts: Micros) -> i64 {
    let days = ts.0.div_euclid(86_400_000_000) + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + days.div_euclid(146_097) * 400 + i64::from(month <= 2);
    year * 100 + month
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let month = |seconds: i64| month_of(Micros(seconds * 1_000_000));
        assert_eq!(month(0), 197_001);
        assert_eq!(month(951_782_399), 200_002); // 2000-02-28T23:59:59Z
        assert_eq!(month(951_868_799), 200_002); // leap day
        assert_eq!(month(951_868_800), 200_003);
        assert_eq!(month(1_767_225_599), 202_512); // 2025-12-31T23:59:59Z
        assert_eq!(month(1_767_225_600), 202_601);
    }
}

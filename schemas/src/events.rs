//! The events of the log. Field order is the order of the schema in `avro/`; a released schema is
//! never edited: a new field means a new file, a default, and a new fingerprint.

use crate::codec::{Blob, Event, Viewed, avro_enum, avro_record, viewed_as_itself};
use crate::ids::{KeyHash, Micros, RequestId, Text};
use crate::money::NanoUsd;
use crate::usage::{Meter, Meters};

avro_record! {
    /// Whom a call is booked to. Empty text never stands for "none".
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Attribution viewed as AttributionView {
        org: OrgId,
        team: Option<Text>,
        user: Option<Text>,
        key: Option<KeyHash>,
        key_alias: Option<Text>,
        /// The customer behind the caller: `user` of the body, or `x-litellm-end-user-id`.
        end_user: Option<Text>,
        tags: Vec<Text>,
    }
}

/// An organisation's id; `default` where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgId(pub Text);

impl Default for OrgId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl Viewed for OrgId {
    type View<'a> = &'a str;
    fn view<'a>(input: &mut &'a [u8]) -> Result<&'a str, crate::codec::DecodeError> {
        Text::view(input)
    }
    fn owned(view: &&str) -> Self {
        Self(Text::owned(view))
    }
}

impl crate::codec::Datum for OrgId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut &[u8]) -> Result<Self, crate::codec::DecodeError> {
        Text::decode(input).map(Self)
    }
}

avro_record! {
    /// One window of one budget, as it was checked at admission; settlement lands there however late.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    pub struct BudgetRef viewed as BudgetRefView {
        /// `key:<hash>`, `team:<id>`, `user:<id>`, `org:<id>`, `global`.
        budget: Text,
        /// First instant of the window; 0 for a lifetime budget.
        window_start: Micros,
        /// First instant after the window; `i64::MAX` for a lifetime budget.
        window_end: Micros,
    }
}

avro_record! {
    /// ADMIT: a call passed every limit and its hold stands. Written before dispatch.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Admitted {
        event_time: Micros,
        request_id: RequestId,
        attribution: Attribution,
        model_requested: Text,
        /// What would serve the call first; prices an abandoned call.
        provider: Text,
        model: Text,
        deployment: Text,
        stream: bool,
        /// Worst case, held on every budget in `budgets`.
        hold: NanoUsd,
        /// Upper bound of prompt tokens, tokens.
        input_bound: u64,
        /// Cap on output tokens sent upstream; absent when the call is uncapped.
        output_cap: Option<u64>,
        budgets: Vec<BudgetRef>,
        catalog_version: u64,
        config_version: u64,
        /// The call ends by then, whatever happens.
        deadline: Micros,
    }
}

avro_record! {
    /// A mark of a stream in progress, so that a crash bills what was produced. Journal only.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Progress {
        event_time: Micros,
        request_id: RequestId,
        mark: StreamMark,
        /// Other attempts of the call that are on their way.
        beside: Vec<StreamMark>,
    }
}

avro_record! {
    /// How far a stream has come, estimated from what passed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct StreamMark {
        provider: Text,
        model: Text,
        deployment: Text,
        attempt_no: u32,
        input_tokens: u64,
        output_tokens: u64,
    }
}

avro_enum! {
    /// How an attempt ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Outcome {
        /// A symbol of a later version.
        Unknown = "unknown",
        /// A complete answer.
        Ok = "ok",
        /// The provider or the way to it failed.
        Error = "error",
        /// The client hung up; billed for what was produced.
        Cancelled = "cancelled",
        /// The gateway died with the call open; billed at restart from its last mark.
        Abandoned = "abandoned",
        /// Answered from the cache at no cost.
        CacheHit = "cache_hit",
    }
}

avro_enum! {
    /// Which tier of the cache answered.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum CacheKind {
        None = "none",
        Exact = "exact",
        Semantic = "semantic",
    }
}

avro_record! {
    /// USAGE: what one attempt used. Durable before the last byte reaches the client.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Usage viewed as UsageView {
        /// End of the attempt.
        event_time: Micros,
        /// Admission of the call: decides day, price and budget window.
        admitted_at: Micros,
        request_id: RequestId,
        /// The caller's own id (`x-litellm-call-id`), if it sent one.
        call_id: Option<Text>,
        attribution: Attribution,
        /// From 1.
        attempt_no: u32,
        /// The last record of its call: the hold goes with it.
        last: bool,
        outcome: Outcome,
        /// Quantities were counted by us, not told by the provider.
        estimated: bool,
        /// The provider's totals disagree with the sum of its parts.
        mismatch: bool,
        stream: bool,
        /// HTTP status sent to the client, 0 when none was.
        status: u32,
        error_code: Option<Text>,
        finish_reason: Option<Text>,
        model_requested: Text,
        provider: Text,
        /// What the provider calls the model that served.
        model: Text,
        deployment: Text,
        /// As the answer reports it; absent is the standard tier.
        service_tier: Option<Text>,
        meters: Meters,
        /// The provider's usage object as received, to normalise again.
        provider_usage: Blob,
        /// What was held for the call.
        hold: NanoUsd,
        budgets: Vec<BudgetRef>,
        catalog_version: u64,
        cache: CacheKind,
        /// Cosine of a semantic hit; 1 for an exact one, 0 for none.
        cache_similarity: f32,
        /// What a hit would have cost.
        saved: NanoUsd,
        /// Time to the first byte of the answer, µs.
        first_byte_us: Option<u64>,
        /// Admission to end, µs.
        duration_us: u64,
        stages: Stages,
        /// All of the call, on its last record; empty where there was only one.
        attempts: Vec<Attempt>,
        /// A long prompt was made shorter.
        compression: Option<Compression>,
        /// The call that this one was made for, such as a summary of its middle.
        parent: Option<RequestId>,
        /// JSON that the caller sent for its logs (`x-litellm-spend-logs-metadata`).
        metadata: Option<Text>,
    }
}

avro_record! {
    /// Where the time went before the provider had the request, µs.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Stages {
        /// Finding the caller.
        auth_us: u64,
        /// Choosing the first deployment.
        route_us: u64,
        /// Pricing, reserving and recording, and whatever else came between choice and dispatch.
        admit_us: u64,
        /// Asking the cache; 0 where none was asked.
        cache_us: u64,
        /// A new connection of this attempt; absent where a kept one was used.
        connect_us: Option<u64>,
    }
}

viewed_as_itself!(Stages);

avro_record! {
    /// One attempt of a call that took several.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Attempt viewed as AttemptView {
        deployment: Text,
        provider: Text,
        model: Text,
        /// `first`, `retry`, `fallback` or `threshold`.
        why: Text,
        /// Class of its error; absent for an answer.
        failure: Option<Text>,
        /// HTTP status; 0 where none was told.
        status: u32,
        /// Waited before it, µs.
        wait_us: u64,
        /// Dispatch to its end, µs.
        took_us: u64,
    }
}

avro_record! {
    /// What making a prompt shorter saved.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Compression viewed as CompressionView {
        /// `drop_middle` or `summarise`.
        strategy: Text,
        tokens_before: u64,
        tokens_after: u64,
        messages_before: u32,
        messages_after: u32,
    }
}

avro_record! {
    /// One line of a rated cost.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CostLine {
        meter: Meter,
        quantity: i64,
        /// USD per unit, decimal text.
        unit_price: Text,
        /// USD, exact, decimal text.
        amount: Text,
    }
}

avro_record! {
    /// A rated cost, or the difference that a later rating makes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CostEvent {
        event_time: Micros,
        /// Identity of the usage event.
        usage_source: u64,
        usage_partition: u32,
        usage_pseq: u64,
        /// 0 for the first rating, then counted up.
        rating_seq: u32,
        catalog_version: u64,
        amount: NanoUsd,
        /// Before rounding, USD, decimal text.
        exact: Text,
        lines: Vec<CostLine>,
        reason: Text,
    }
}

avro_enum! {
    /// What a config event is about.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum ConfigEntity {
        Unknown = "unknown",
        Key = "key",
        Team = "team",
        User = "user",
        Organization = "organization",
        Budget = "budget",
        Model = "model",
        Setting = "setting",
    }
}

avro_enum! {
    /// What happened to it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum ConfigOp {
        Put = "put",
        Delete = "delete",
    }
}

avro_record! {
    /// A change of configuration. Its version is its pseq on the config topic.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConfigEvent {
        event_time: Micros,
        entity: ConfigEntity,
        /// Key hash in hex, team id, …
        id: Text,
        op: ConfigOp,
        /// The whole new state as JSON; empty for a delete. Never a secret.
        body: Text,
        /// Who did it: a key hash, `master`, `file`.
        actor: Text,
    }
}

avro_record! {
    /// One price of an entry.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Rate {
        meter: Meter,
        /// `flex`, `priority`, `batch`; absent is the standard tier.
        service_tier: Option<Text>,
        /// Applies to whole requests whose prompt has more tokens than this; 0 is the base price.
        context_above: u64,
        /// USD per unit, decimal text with at most 18 places.
        price: Text,
    }
}

avro_record! {
    /// All prices and limits of one model, in force for a span of time.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PriceEntry {
        /// `global`, `org:<id>`, `deployment:<id>`; the narrowest that fits wins.
        scope: Text,
        provider: Text,
        model: Text,
        effective_from: Micros,
        effective_to: Option<Micros>,
        /// Where the prices were read, and when (`2026-11-01`).
        source: Text,
        source_date: Text,
        /// Tokens; absent is unknown.
        max_input: Option<u64>,
        max_output: Option<u64>,
        rates: Vec<Rate>,
    }
}

avro_record! {
    /// A change of prices. The catalog's version is this event's pseq: entries are added to, never edited.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CatalogEvent {
        event_time: Micros,
        actor: Text,
        entries: Vec<PriceEntry>,
    }
}

avro_enum! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum AuditKind {
        /// Neither of these: blocks. A symbol of its own could not be read by older versions.
        Unknown = "unknown",
        /// Once a second per source: what should exist.
        Heartbeat = "heartbeat",
        /// An operator accepted a gap.
        GapAccepted = "gap_accepted",
    }
}

avro_record! {
    /// Every event of a span of one source and partition, as a lane has brought it. Spans of a lane that
    /// follow on each other add up.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditBlock {
        /// `budget` or `store`.
        lane: Text,
        of_source: u64,
        of_partition: u32,
        first: u64,
        last: u64,
        /// Billed.
        events: u64,
        /// Given to the dead letters.
        poison: u64,
        /// Of the billed ones, nano-USD, decimal text: it may be longer than 64 bits.
        sum: Text,
        /// Sum modulo 2⁶⁴ of xxh3 over identity and amount, little-endian.
        print: u64,
    }
}

avro_record! {
    /// The last sequence number of one partition.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LastPseq {
        topic: u32,
        of_partition: u32,
        last: u64,
    }
}

avro_record! {
    /// What the audit needs to know about a source.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditEvent {
        event_time: Micros,
        kind: AuditKind,
        last: Vec<LastPseq>,
        /// Bytes of the journal that no consumer has acknowledged yet.
        depth_bytes: u64,
        open_calls: u64,
        blocks: Vec<AuditBlock>,
    }
}

avro_record! {
    /// An event that could not be processed, whole, with the reason.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DeadLetter {
        event_time: Micros,
        topic: u32,
        of_source: u64,
        of_partition: u32,
        of_pseq: u64,
        /// Which consumer gave it up.
        lane: Text,
        error: Text,
        /// The body as it was read.
        original: Blob,
    }
}

/// Ties a record to its current schema file and fingerprint.
macro_rules! events {
    ($($type:ident = $name:literal, $file:literal, $fingerprint:literal;)*) => {
        $(impl Event for $type {
            const NAME: &'static str = $name;
            const FINGERPRINT: u64 = $fingerprint;
            const SCHEMA: &'static str = include_str!(concat!("../avro/", $file));
        })*

        /// Every event of ours: name, current schema, its fingerprint.
        pub const CURRENT: &[(&str, &str, u64)] = &[
            $(($name, include_str!(concat!("../avro/", $file)), $fingerprint),)*
        ];
    };
}
events! {
    Admitted = "tollgate.Admitted", "request_event.v1.avsc", 0x3067_088c_7578_66c6;
    Progress = "tollgate.Progress", "progress_event.v2.avsc", 0xe1eb_9925_906d_694b;
    Usage = "tollgate.Usage", "usage_event.v2.avsc", 0x61c9_a81c_c493_174f;
    CostEvent = "tollgate.Cost", "cost_event.v1.avsc", 0xd461_4493_558e_c38a;
    ConfigEvent = "tollgate.Config", "config_event.v1.avsc", 0x5f41_f6db_fb90_efb4;
    CatalogEvent = "tollgate.Catalog", "catalog_event.v1.avsc", 0xd83f_05dc_13e8_ea49;
    AuditEvent = "tollgate.Audit", "audit_event.v2.avsc", 0x0b32_2878_2ff1_8371;
    DeadLetter = "tollgate.DeadLetter", "dead_letter.v1.avsc", 0xb3c8_3b7a_f209_a0d3;
}

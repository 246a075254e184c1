-- What was used and what it cost. The same statements for the embedded engine and a server.
--
-- Both tables are projections of the log: every key holds only immutable fields of the event, so a
-- replay writes the same keys again and no sum over FINAL changes. `ts` is the admission of the call,
-- never now(): a key lives in one partition for ever, which makes
-- do_not_merge_across_partitions_select_final=1 safe. Empty text stands for "none" in optional columns.
--
-- Plain strings under ZSTD take as little room here as LowCardinality and a quarter of its time to insert
-- (0.2 s of CPU instead of 0.8 s for 100,000 usage rows).
-- No insert deduplication: it would swallow a replay that repairs lost parts, and the keys do not need it.
-- Nothing is dropped by age: budgets for life are restored from the ledger, and the audit counts rows.
-- Who keeps less gives usage_rows a TTL of whole months (ALTER TABLE usage_rows MODIFY TTL …).
-- A statement ends with ";" at the end of a line.

CREATE TABLE IF NOT EXISTS usage_rows (
  ts DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  ended_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  source_id UInt64 CODEC(LZ4),
  kpart UInt16 CODEC(LZ4),
  pseq UInt64 CODEC(Delta, LZ4),
  request_id UUID,
  call_id String CODEC(ZSTD(1)),
  org String CODEC(ZSTD(1)),
  team_id String CODEC(ZSTD(1)),
  user_id String CODEC(ZSTD(1)),
  key_hash String CODEC(ZSTD(1)),
  key_alias String CODEC(ZSTD(1)),
  end_user String CODEC(ZSTD(1)),
  tags Array(String) CODEC(ZSTD(1)),
  model_requested String CODEC(ZSTD(1)),
  model String CODEC(ZSTD(1)),
  provider String CODEC(ZSTD(1)),
  deployment_id String CODEC(ZSTD(1)),
  service_tier String CODEC(ZSTD(1)),
  attempt_no UInt32,
  last Bool,
  outcome Enum8('unknown' = 0, 'ok' = 1, 'error' = 2, 'cancelled' = 3, 'abandoned' = 4, 'cache_hit' = 5),
  estimated Bool,
  mismatch Bool,
  stream Bool,
  status UInt16,
  error_code String CODEC(ZSTD(1)),
  finish_reason String CODEC(ZSTD(1)),
  catalog_version UInt64,
  meters Map(String, Int64) CODEC(ZSTD(1)),
  input_tokens Int64,
  cached_tokens Int64,
  output_tokens Int64,
  reasoning_tokens Int64,
  ttft_us UInt64,
  duration_us UInt64,
  cache_kind Enum8('none' = 0, 'exact' = 1, 'semantic' = 2),
  cache_similarity Float32,
  saved Decimal(18, 9),
  hold Decimal(18, 9),
  priced Bool,
  unpriced_reason String CODEC(ZSTD(1)),
  provider_usage String CODEC(ZSTD(3)),
  INDEX request_id_seen request_id TYPE bloom_filter GRANULARITY 4,
  INDEX key_hash_seen key_hash TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (org, toDate(ts), source_id, kpart, pseq)
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1,
  min_rows_to_fsync_after_merge = 1, index_granularity = 8192;

CREATE TABLE IF NOT EXISTS cost_ledger (
  ts DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  source_id UInt64 CODEC(LZ4),
  kpart UInt16 CODEC(LZ4),
  pseq UInt64 CODEC(Delta, LZ4),
  rating_seq UInt32,
  request_id UUID,
  org String CODEC(ZSTD(1)),
  team_id String CODEC(ZSTD(1)),
  user_id String CODEC(ZSTD(1)),
  key_hash String CODEC(ZSTD(1)),
  key_alias String CODEC(ZSTD(1)),
  end_user String CODEC(ZSTD(1)),
  tags Array(String) CODEC(ZSTD(1)),
  model_requested String CODEC(ZSTD(1)),
  model String CODEC(ZSTD(1)),
  provider String CODEC(ZSTD(1)),
  deployment_id String CODEC(ZSTD(1)),
  outcome Enum8('unknown' = 0, 'ok' = 1, 'error' = 2, 'cancelled' = 3, 'abandoned' = 4, 'cache_hit' = 5),
  last Bool,
  amount Decimal(18, 9),
  exact Decimal(38, 18),
  priced Bool,
  reason String CODEC(ZSTD(1)),
  catalog_version UInt64,
  hold Decimal(18, 9),
  saved Decimal(18, 9),
  input_tokens Int64,
  output_tokens Int64,
  budget_id Array(String),
  window_start Array(DateTime64(6, 'UTC')),
  INDEX request_id_seen request_id TYPE bloom_filter GRANULARITY 4,
  INDEX key_hash_seen key_hash TYPE bloom_filter GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (org, toDate(ts), source_id, kpart, pseq, rating_seq)
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1,
  min_rows_to_fsync_after_merge = 1, index_granularity = 8192;

-- Up to where the store lane has handled each source, written after the rows of a batch. Rows may be
-- missing below a mark for good reasons (dead letters, a TTL), which a count of rows could not tell from
-- a loss. Whoever drops rows to have them replayed drops the marks of their source too.
CREATE TABLE IF NOT EXISTS lane_marks (
  source_id UInt64,
  kpart UInt16,
  pseq UInt64
)
ENGINE = ReplacingMergeTree(pseq)
ORDER BY (source_id, kpart)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

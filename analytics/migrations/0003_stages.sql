-- Where the time of a call went, its attempts, what making its prompt shorter saved, the call it was made
-- for, and what the caller sent for its logs. Rows from before have the defaults.

ALTER TABLE usage_rows
  ADD COLUMN IF NOT EXISTS auth_us UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS route_us UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS admit_us UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS cache_us UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS connect_us UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS attempts Array(Tuple(deployment String, provider String, model String, why String, failure String, status UInt16, wait_us UInt64, took_us UInt64)) CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS compression String CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS tokens_before UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS tokens_after UInt64 CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS parent_id String CODEC(ZSTD(1)),
  ADD COLUMN IF NOT EXISTS metadata String CODEC(ZSTD(1));

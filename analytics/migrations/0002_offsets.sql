-- Where the store lane reads on in each partition of a broker, written after the marks of a batch:
-- everything before it is in the tables or in the dead letters. A short cut only; without it a partition
-- is read from its beginning, and the marks drop what is known. Whoever drops marks drops these too.
-- A statement ends with ";" at the end of a line.

CREATE TABLE IF NOT EXISTS lane_offsets (
  kpart UInt16,
  next UInt64
)
ENGINE = ReplacingMergeTree(next)
ORDER BY kpart
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

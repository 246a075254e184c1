-- How many events of each source have a row in each table, of those up to a given number. More rows than
-- events: one event lies under two keys. `ended` are the last records of their calls.
SELECT source_id, kpart,
  countIf(usage) AS usage_rows,
  uniqExactIf(pseq, usage) AS usage_events,
  countIf(NOT usage) AS cost_rows,
  uniqExactIf(pseq, NOT usage) AS cost_events,
  countIf(usage AND last) AS ended
FROM (
  SELECT source_id, kpart, pseq, last, true AS usage FROM usage_rows FINAL
  UNION ALL
  SELECT source_id, kpart, pseq, last, false AS usage FROM cost_ledger FINAL WHERE rating_seq = 0
) AS events
INNER JOIN (
  SELECT tupleElement(mark, 1) AS source_id, tupleElement(mark, 2) AS kpart, tupleElement(mark, 3) AS reached
  FROM (
    SELECT arrayJoin(arrayZip({sources:Array(UInt64)}, {parts:Array(UInt16)}, {reached:Array(UInt64)})) AS mark
  )
) AS marks ON events.source_id = marks.source_id AND events.kpart = marks.kpart
WHERE events.pseq <= marks.reached
GROUP BY source_id, kpart

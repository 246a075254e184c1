-- The last event of each source that has a row.
SELECT source_id, kpart, max(pseq) AS pseq
FROM (
  SELECT source_id, kpart, pseq FROM usage_rows
  UNION ALL
  SELECT source_id, kpart, pseq FROM cost_ledger
)
GROUP BY source_id, kpart

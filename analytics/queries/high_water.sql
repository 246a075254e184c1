-- Up to where the ledger holds every event of each source: the mark of the last whole batch, and on
-- from there as long as no sequence number is missing. Rows behind a hole do not count: their batch
-- stopped half way and will come again.
WITH marks AS (
  SELECT source_id, kpart, max(pseq) AS mark FROM lane_marks GROUP BY source_id, kpart
), beyond AS (
  SELECT DISTINCT ledger.source_id AS source_id, ledger.kpart AS kpart, ledger.pseq AS pseq,
    marks.mark AS mark
  FROM cost_ledger AS ledger
  LEFT JOIN marks ON ledger.source_id = marks.source_id AND ledger.kpart = marks.kpart
  WHERE ledger.rating_seq = 0 AND ledger.pseq > marks.mark
), runs AS (
  -- In a run without holes, number and row number differ by the same amount: the mark.
  SELECT source_id, kpart, max(pseq) AS reached
  FROM (
    SELECT source_id, kpart, pseq, mark,
      row_number() OVER (PARTITION BY source_id, kpart ORDER BY pseq) AS place
    FROM beyond
  )
  WHERE pseq = mark + place
  GROUP BY source_id, kpart
)
SELECT source_id, kpart, max(reached) AS pseq
FROM (
  SELECT source_id, kpart, mark AS reached FROM marks
  UNION ALL
  SELECT source_id, kpart, reached FROM runs
)
GROUP BY source_id, kpart
ORDER BY source_id, kpart

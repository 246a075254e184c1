-- Numbers of one source that have no row, as spans, the first few. Dead letters are among them.
SELECT toUInt64(before + 1) AS first, toUInt64(pseq - 1) AS last
FROM (
  SELECT pseq, lagInFrame(pseq, 1, 0) OVER (ORDER BY pseq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
  FROM (
    SELECT DISTINCT pseq FROM cost_ledger
    WHERE source_id = {source:UInt64} AND kpart = {part:UInt16} AND pseq <= {reached:UInt64} AND rating_seq = 0
    UNION ALL
    SELECT {reached:UInt64} + 1
  )
)
WHERE pseq > before + 1
ORDER BY first
LIMIT 20

-- What each budget window has used, of the events up to a given number per source.
SELECT
  tupleElement(charge, 1) AS budget_id,
  toUnixTimestamp64Micro(tupleElement(charge, 2)) AS window_start,
  toInt64(sum(amount) * 1000000000) AS used
FROM (
  SELECT source_id, kpart, pseq, amount, arrayJoin(arrayZip(ledger.budget_id, ledger.window_start)) AS charge
  FROM cost_ledger AS ledger FINAL
) AS charges
INNER JOIN (
  SELECT tupleElement(mark, 1) AS source_id, tupleElement(mark, 2) AS kpart, tupleElement(mark, 3) AS reached
  FROM (
    SELECT arrayJoin(arrayZip({sources:Array(UInt64)}, {parts:Array(UInt16)}, {reached:Array(UInt64)})) AS mark
  )
) AS marks ON charges.source_id = marks.source_id AND charges.kpart = marks.kpart
WHERE charges.pseq <= marks.reached
GROUP BY budget_id, window_start
ORDER BY budget_id, window_start

-- What the ledger holds of spans of events: the first rating of each, as the lanes note it. The
-- fingerprint is over source, partition, number and amount, little-endian; its sum wraps at 2^64.
SELECT source_id, kpart, spans.first AS first, spans.last AS last,
  count() AS events,
  toString(sum(toInt128(nano))) AS nano_usd,
  sum(xxh3(concat(
    reinterpretAsFixedString(source_id), reinterpretAsFixedString(kpart),
    reinterpretAsFixedString(pseq), reinterpretAsFixedString(nano)))) AS print
FROM (
  SELECT source_id, kpart, pseq, toInt64(toDecimal128(amount, 9) * 1000000000) AS nano
  FROM cost_ledger FINAL WHERE rating_seq = 0
) AS ledger
INNER JOIN (
  SELECT tupleElement(span, 1) AS source_id, tupleElement(span, 2) AS kpart,
    tupleElement(span, 3) AS first, tupleElement(span, 4) AS last
  FROM (
    SELECT arrayJoin(arrayZip({sources:Array(UInt64)}, {parts:Array(UInt16)},
      {firsts:Array(UInt64)}, {lasts:Array(UInt64)})) AS span
  )
) AS spans ON ledger.source_id = spans.source_id AND ledger.kpart = spans.kpart
WHERE ledger.pseq BETWEEN spans.first AND spans.last
GROUP BY source_id, kpart, first, last

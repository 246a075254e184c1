-- Spend by tag. A call with two tags counts on both, one without tags on the empty one, highest first. Money is exact: nano-USD as an integer, since JSON and many clients
-- read decimals as floats. A re-rating changes the spend and counts no second call.
SELECT
  tag AS name,
  '' AS alias,
  countIf(rating_seq = 0 AND last) AS requests,
  toInt64(sumIf(input_tokens, rating_seq = 0)) AS input_tokens,
  toInt64(sumIf(output_tokens, rating_seq = 0)) AS output_tokens,
  toInt64(sum(amount) * 1000000000) AS spend,
  toInt64(sumIf(saved, rating_seq = 0) * 1000000000) AS saved
FROM cost_ledger FINAL
LEFT ARRAY JOIN tags AS tag
WHERE ts >= fromUnixTimestamp64Micro({since:Int64}) AND ts < fromUnixTimestamp64Micro({until:Int64})
GROUP BY name
ORDER BY spend DESC, name

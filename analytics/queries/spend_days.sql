-- Spend per day (UTC) with its users, models and keys: what `/spend/logs` summarises.
SELECT
  toString(toDate(ts)) AS day,
  user_id,
  model,
  key_hash,
  countIf(rating_seq = 0 AND last) AS requests,
  toInt64(sum(amount) * 1000000000) AS spend
FROM cost_ledger FINAL
WHERE ts >= fromUnixTimestamp64Micro({since:Int64}) AND ts < fromUnixTimestamp64Micro({until:Int64})
  AND ({key_hash:String} = 'all' OR key_hash = {key_hash:String})
  AND ({user_id:String} = '' OR user_id = {user_id:String})
GROUP BY toDate(ts), day, user_id, model, key_hash
ORDER BY toDate(ts), user_id, model, key_hash

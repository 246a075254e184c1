-- Single attempts with their cost, newest first: the raw rows of `/spend/logs`.
WITH calls AS (
  SELECT *
  FROM usage_rows FINAL
  WHERE ts >= fromUnixTimestamp64Micro({since:Int64}) AND ts < fromUnixTimestamp64Micro({until:Int64})
    AND ({key_hash:String} = 'all' OR key_hash = {key_hash:String})
    AND ({user_id:String} = '' OR user_id = {user_id:String})
    AND ({request_id:String} = '' OR call_id = {request_id:String}
      OR request_id = toUUIDOrZero({request_id:String}))
  ORDER BY ts DESC, source_id, kpart, pseq DESC
  LIMIT {limit:UInt64} OFFSET {offset:UInt64}
), costs AS (
  SELECT source_id, kpart, pseq, toInt64(sum(amount) * 1000000000) AS spend
  FROM cost_ledger FINAL
  WHERE ts >= fromUnixTimestamp64Micro({since:Int64}) AND ts < fromUnixTimestamp64Micro({until:Int64})
    AND (source_id, kpart, pseq) IN (SELECT source_id, kpart, pseq FROM calls)
  GROUP BY source_id, kpart, pseq
)
SELECT
  toString(request_id) AS request_id, call_id, toUnixTimestamp64Micro(ts) AS started,
  toUnixTimestamp64Micro(ended_at) AS ended, ttft_us,
  org, team_id, user_id, key_hash, key_alias,
  end_user, tags,
  model_requested, model,
  provider, deployment_id,
  attempt_no, last, toString(outcome) AS outcome, estimated, stream, status,
  error_code, finish_reason,
  input_tokens, cached_tokens, output_tokens, reasoning_tokens,
  toString(cache_kind) AS cache_kind, cache_similarity, priced,
  toInt64(toDecimal128(saved, 9) * 1000000000) AS saved, costs.spend AS spend
FROM calls
LEFT JOIN costs USING (source_id, kpart, pseq)
ORDER BY started DESC, source_id, kpart, pseq DESC

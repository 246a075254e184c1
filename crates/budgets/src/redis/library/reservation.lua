-- Answers of `reserve` and `raise`.
local GRANT, REPEAT, NO_MONEY, NO_RATE, CLOSED, STALE, NO_RANGE, LATE, NO_HOLD = 1, 2, 3, 4, 5, 6, 7, 8, 9
local REQUESTS, TOKENS_A_MINUTE, PARALLEL = 1, 2, 3

local function show_again(base, hold, now)
  local answer = {REPEAT, now, hold[EXPIRES], hold[GRANTED]}
  for at, window in ipairs(hold[WINDOWS]) do
    local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'h', 'f')
    local gauge = {false, false, false}
    if hold[GAUGES][at] ~= '' then
      gauge = redis.call('HMGET', base .. 'g:' .. hold[GAUGES][at], 'r', 't', 'm')
    end
    for _, value in ipairs({sums[1] or '0', sums[2] or '0', sums[3] or '0'}) do answer[#answer + 1] = value end
    for field = 1, 3 do answer[#answer + 1] = gauge[field] or '' end
  end
  return answer
end

-- How much all scopes grant, the least of it, and the place of the first scope that is too short for that.
-- Nothing where a counter is at the end of its range.
local function grant_of(scopes, number, granted, smallest)
  local amount, short = text_of(granted), nil
  for at, scope in ipairs(scopes) do
    local window = scope.window
    if number == exact and overflow(window.u, window.h, amount) then return nil end
    if scope.limit ~= '' then
      local room = number(scope.limit) - number(window.u) - number(window.h)
      if room < smallest then
        scope.short, short = true, short or at
      elseif room < granted then
        granted = room
      end
    end
  end
  return granted, smallest, short
end

-- The first scope that would be too short without the calls in progress too. Of several refusals the one
-- that lasts longest is told: spend, then a rate, then open holds.
local function short_for_long(scopes, number, smallest)
  for at, scope in ipairs(scopes) do
    local window = scope.window
    if scope.short and number(scope.limit) < number(window.u) + number(window.f) + smallest then return at end
  end
end

local function no_money(now, scopes, at, by_holds)
  local window = scopes[at].window
  return {NO_MONEY, now, at, window.u, window.h, window.f, by_holds}
end

-- args: hold, amount, least, tokens, now, lasts, deadline, generation, member, then per scope: budget,
-- start, end, limit, requests, tokens, calls in flight; empty where there is no limit.
local HEAD, EACH = 9, 7

local function reserve(keys, args)
  local base, id, amount, least = base_of(keys), args[1], args[2], args[3]
  local tokens, now = tonumber(args[4]), clock(args[5])
  if args[7] ~= '' and now > tonumber(args[7]) then return {LATE, now} end
  local known = hold_of(base, id)
  if known then return show_again(base, known, now) end

  local count, hard = (#args - HEAD) / EACH, false
  for at = 1, count do
    local from = HEAD + (at - 1) * EACH
    if now < tonumber(args[from + 2]) or now >= tonumber(args[from + 3]) then return {STALE, now} end
    hard = hard or args[from + 4] ~= ''
  end
  if hard then
    local phase, generation = state_of(keys)
    if phase ~= OPEN or generation ~= args[8] then return {CLOSED, now, phase, generation} end
  end

  local minute = math.floor(now / MINUTE)
  local scopes, windows, gauges, number = {}, {}, {}, reader(amount)
  for at = 1, count do
    local from = HEAD + (at - 1) * EACH
    local budget, limit = args[from + 1], args[from + 4]
    local name = args[from + 2] .. ':' .. budget
    local window = windows[name]
    if not window then
      local sums = redis.call('HMGET', base .. 'w:' .. name, 'u', 'h', 'f', 'l', 'e')
      window = {u = sums[1] or '0', h = sums[2] or '0', f = sums[3] or '0', l = sums[4] or '', e = sums[5]}
      windows[name] = window
      if number == tonumber then number = reader(window.u, window.h, window.f) end
    end
    if number == tonumber then number = reader(limit) end
    window.limit, window.ends = limit, args[from + 3]
    local gauge
    if args[from + 5] ~= '' or args[from + 6] ~= '' or args[from + 7] ~= '' then
      gauge = gauges[budget]
      if not gauge then
        local counts = redis.call('HMGET', base .. 'g:' .. budget, 'm', 'r', 't', 'p')
        gauge = {p = tonumber(counts[4] or 0)}
        gauge.m, gauge.r, gauge.t, gauge.fresh = rolled(counts, minute)
        gauges[budget] = gauge
      end
    end
    scopes[at] = {
      name = name, window = window, gauge = gauge, budget = gauge and budget or '', limit = limit, from = from,
    }
  end

  local granted, smallest, short = grant_of(scopes, number, number(amount), number(least))
  if not granted then return {NO_RANGE, now} end
  local lasting = short and short_for_long(scopes, number, smallest)
  if lasting then return no_money(now, scopes, lasting, 0) end
  for at, scope in ipairs(scopes) do
    local gauge, from = scope.gauge, scope.from
    if gauge then
      if args[from + 5] ~= '' and gauge.r >= tonumber(args[from + 5]) then
        return {NO_RATE, now, at, REQUESTS, gauge.r, gauge.m}
      end
      if args[from + 6] ~= '' and gauge.t + tokens > tonumber(args[from + 6]) then
        return {NO_RATE, now, at, TOKENS_A_MINUTE, gauge.t, gauge.m}
      end
      if args[from + 7] ~= '' and gauge.p >= tonumber(args[from + 7]) then
        return {NO_RATE, now, at, PARALLEL, gauge.p, gauge.m}
      end
    end
  end
  if short then return no_money(now, scopes, short, 1) end

  local lasts = tonumber(args[6])
  local held, expires = text_of(granted), now + lasts
  for name, window in pairs(windows) do
    local key = base .. 'w:' .. name
    write('HINCRBY', key, 'h', held)
    if window.e ~= window.ends then know_window(base, name, window.ends) end
    if window.l ~= window.limit then write('HSET', key, 'l', window.limit) end
  end
  for budget, gauge in pairs(gauges) do
    gauge.r, gauge.t, gauge.p = gauge.r + 1, gauge.t + tokens, gauge.p + 1
    take_slot(base .. 'g:' .. budget, gauge.m, gauge.r, gauge.t, gauge.p, lasts, gauge.fresh)
  end
  local hold = {held, held, '0', HELD, true, tokens, expires, args[9], {}, {}, {}, '', ''}
  local answer = {GRANT, now, expires, held}
  for at, scope in ipairs(scopes) do
    local window, gauge = scope.window, scope.gauge
    hold[WINDOWS][at], hold[GAUGES][at], hold[MINUTES][at] = scope.name, scope.budget, gauge and gauge.m or 0
    local next = #answer
    answer[next + 1], answer[next + 2], answer[next + 3] = window.u, window.h, window.f
    answer[next + 4] = gauge and gauge.r or ''
    answer[next + 5] = gauge and gauge.t or ''
    answer[next + 6] = gauge and gauge.m or ''
  end
  write('SET', base .. 'h:' .. id, cmsgpack.pack(hold))
  write('ZADD', base .. 'exp', expires, id)
  return answer
end

local function raise_hold(base, id, hold, by)
  local number = reader(by, hold[GRANTED], hold[AMOUNT])
  add_to_windows(base, hold, 'h', by)
  hold[GRANTED] = text_of(number(hold[GRANTED]) + number(by))
  hold[AMOUNT] = text_of(number(hold[AMOUNT]) + number(by))
  keep(base, id, hold)
end

-- More for a call in progress, for one more attempt: of money alone. What was granted before tells a
-- repetition. args: hold, granted before, amount, least, generation, then the limit of each scope
local function raise(keys, args)
  local base, id, now = base_of(keys), args[1], server_time()
  local hold, scopes, windows, hard = hold_of(base, id), {}, {}, false
  if not hold or hold[PHASE] ~= HELD or not hold[RUNNING] then return {NO_HOLD, now} end
  local number = reader(args[2], args[3], args[4], hold[GRANTED], hold[AMOUNT])
  for at, name in ipairs(hold[WINDOWS]) do
    local limit = args[5 + at] or ''
    if not windows[name] then
      local sums = redis.call('HMGET', base .. 'w:' .. name, 'u', 'h', 'f')
      windows[name] = {u = sums[1] or '0', h = sums[2] or '0', f = sums[3] or '0'}
    end
    local window = windows[name]
    if number == tonumber then number = reader(limit, window.u, window.h, window.f) end
    scopes[at], hard = {window = window, limit = limit}, hard or limit ~= ''
  end
  if hard then
    local phase, generation = state_of(keys)
    if phase ~= OPEN or generation ~= args[5] then return {CLOSED, now, phase, generation} end
  end
  local zero, before, has = number('0'), number(args[2]), number(hold[GRANTED])
  local wanted, least = before + number(args[3]) - has, before + number(args[4]) - has
  if before < has and least <= zero then return {REPEAT, now, text_of(has - before)} end
  if wanted < zero then wanted = zero end
  if least < zero then least = zero end
  local granted, smallest, short = grant_of(scopes, number, wanted, least)
  if not granted then return {NO_RANGE, now} end
  if short then
    local lasting = short_for_long(scopes, number, smallest)
    return no_money(now, scopes, lasting or short, lasting and 0 or 1)
  end
  raise_hold(base, id, hold, text_of(granted))
  return {GRANT, now, text_of(has + granted - before)}
end

-- Whether the event is in what is settled. An empty field is no event.
local function is_settled(base, field, pseq)
  if field == '' then return false end
  return up_to(pseq, redis.call('HGET', base .. 'marks', field) or '0')
end

-- The call is over: `call` has its actual cost, the tokens used, field and pseq of its event. Answers whether
-- it cost more than was held.
local function finish_hold(base, id, hold, call, settled)
  if hold[RUNNING] then leave_gauges(base, hold, 0, call.used - hold[TOKENS]) end
  local over, actual = 0, call.actual
  if hold[PHASE] == HELD then
    hold[FIELD], hold[PSEQ] = call.field, call.pseq
    -- Nothing held and nothing spent: no settlement is waited for.
    if settled or (hold[GRANTED] == '0' and actual == '0') then
      drop_money(base, hold)
    else
      local number = reader(actual, hold[SETTLED], hold[AMOUNT])
      local zero, left = number('0'), number(actual) - number(hold[SETTLED])
      if left < zero then left = zero end
      local change = left - number(hold[AMOUNT])
      if zero < change then
        -- Where nothing was held no limit was checked.
        if hold[GRANTED] ~= '0' then over = 1 end
        for _, window in ipairs(hold[WINDOWS]) do
          local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'h')
          -- No counter can tell it: what is held already has to do until the settlement.
          if overflow(sums[1] or '0', sums[2] or '0', text_of(change)) then
            left, change = number(hold[AMOUNT]), zero
          end
        end
      end
      add_to_windows(base, hold, 'h', text_of(change))
      hold[AMOUNT], hold[PHASE] = text_of(left), FINISHED
      add_to_windows(base, hold, 'f', hold[AMOUNT])
    end
  end
  keep(base, id, hold)
  return over
end

-- args: hold, actual, tokens, field of the event's mark, its pseq
local function finish(keys, args)
  local base = base_of(keys)
  local hold = hold_of(base, args[1])
  if not hold then
    local phase, generation = state_of(keys)
    return {0, phase, generation}
  end
  local call = {actual = args[2], used = tonumber(args[3]), field = args[4], pseq = args[5]}
  local answer = {1, finish_hold(base, args[1], hold, call, is_settled(base, call.field, call.pseq))}
  for _, window in ipairs(hold[WINDOWS]) do
    local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'f')
    answer[#answer + 1], answer[#answer + 2] = sums[1] or '0', sums[2] or '0'
  end
  return answer
end

-- args: holds
local function release(keys, args)
  local base, released = base_of(keys), 0
  for _, id in ipairs(args) do
    local hold = hold_of(base, id)
    if hold and hold[RUNNING] then
      leave_gauges(base, hold, 1, -hold[TOKENS])
      drop_money(base, hold)
      keep(base, id, hold)
      released = released + 1
    end
  end
  return released
end

-- Answers how many expired. args: now, most
local function sweep(keys, args)
  local base, now, most = base_of(keys), clock(args[1]), args[2]
  local late = redis.call('ZRANGEBYSCORE', base .. 'exp', '-inf', now, 'LIMIT', 0, most)
  local expired = 0
  for _, id in ipairs(late) do
    local hold = hold_of(base, id)
    if hold and hold[PHASE] == FINISHED and (hold[FIELD] or '') ~= ''
      and not is_settled(base, hold[FIELD], hold[PSEQ]) then
      -- The event waits in the log, behind a gap or a lane that stands still.
      hold[EXPIRES] = now
      keep(base, id, hold)
    elseif hold then
      expired = expired + 1
      if hold[RUNNING] then
        -- The call was lost, not undone: it stays counted in its minute.
        leave_gauges(base, hold, 0, 0)
      end
      drop_money(base, hold)
      keep(base, id, hold)
    else
      write('ZREM', base .. 'exp', id)
    end
  end
  for _, window in ipairs(redis.call('ZRANGEBYSCORE', base .. 'windows', '-inf', now, 'LIMIT', 0, most)) do
    write('DEL', base .. 'w:' .. window)
    write('ZREM', base .. 'windows', window)
  end
  return expired
end


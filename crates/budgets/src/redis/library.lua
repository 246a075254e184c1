#!lua name=tollgate_budgets
-- Budget state of all processes. Every function is one step for everybody: it checks first and writes
-- last, since nothing is rolled back here. Runs the transitions of metering's budget.rs and limits.rs.
--
-- Keys, all under one hash tag; only the first is passed, the others begin as it does:
--   {p}:state              hash  phase (rebuilding, restoring, open), generation, since, until
--   {p}:w:<start>:<budget> hash  u used, h held (finished holds too), f finished, l limit seen, e end
--   {p}:g:<budget>         hash  m minute, r requests, t tokens, p calls in flight
--   {p}:h:<hold>           one call, packed (see HOLD)
--   {p}:exp                zset  holds by the instant they are given back
--   {p}:windows            zset  windows by the instant they are forgotten
--   {p}:marks, {p}:next    hash  what is settled: <source>:<partition> -> pseq, partition -> offset
--   {p}:members            hash  process, <name>/<life> -> <lease> <generation it told its calls to>
--   {p}:steps              hash  begun, ended: see `write`
--   {p}:caught             set   partitions whose lane has caught up in this generation
--
-- Money is the decimal text of an i64. Lua's numbers are doubles: additions are HINCRBY, comparisons go
-- through `exact` as soon as one text is long. Instants are microseconds, below 2^53.

local VERSION, BUILD = 1, '@BUILD@'

-- Which generation this life of the server has seen begin. Not data: a restart, a failover to a replica
-- and a reload of the library forget it, so state that may have been rolled back closes by itself.
local alive = {}

local ABSENT, REBUILDING, RESTARTED, RESTORING, OPEN = 0, 1, 2, 3, 4

-- A finished hold is money that is certainly spent: it outlives its call's expiry by this.
local FINISHED_KEPT = 24 * 3600 * 1e6
-- Windows stay known this long after their end, for late events and reports.
local WINDOW_KEPT = 35 * 24 * 3600 * 1e6
local MINUTE = 60 * 1e6
-- Up to here a double holds a text's number, and any sum of a few of them, exactly.
local SHORT = 15
local HUGE = 2 ^ 52

----------------------------------------------------------------------------------------- exact integers

-- value = hi * 10^9 + lo, 0 <= lo < 10^9.
local Exact = {}

local function exact_of(hi, lo)
  local carry = math.floor(lo / 1e9)
  return setmetatable({hi = hi + carry, lo = lo - carry * 1e9}, Exact)
end

local function exact(text)
  if type(text) == 'number' then text = string.format('%.0f', text) end
  local negative = string.sub(text, 1, 1) == '-'
  local digits = negative and string.sub(text, 2) or text
  local hi, lo = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
  if negative then hi, lo = -hi, -lo end
  return exact_of(hi, lo)
end

Exact.__add = function(a, b) return exact_of(a.hi + b.hi, a.lo + b.lo) end
Exact.__sub = function(a, b) return exact_of(a.hi - b.hi, a.lo - b.lo) end
Exact.__unm = function(a) return exact_of(-a.hi, -a.lo) end
Exact.__eq = function(a, b) return a.hi == b.hi and a.lo == b.lo end
Exact.__lt = function(a, b) return a.hi < b.hi or (a.hi == b.hi and a.lo < b.lo) end
Exact.__le = function(a, b) return not (b < a) end

-- Whether a value is outside of an i64.
local function out_of_range(value)
  local hi, lo = value.hi, value.lo
  return hi > 9223372036 or (hi == 9223372036 and lo > 854775807) or hi < -9223372036
end

-- The text of what `exact` or `tonumber` made.
local function text_of(value)
  if type(value) == 'number' then return string.format('%.0f', value) end
  local hi, lo, sign = value.hi, value.lo, ''
  if hi < 0 then
    sign, hi, lo = '-', -hi, -lo
    if lo < 0 then hi, lo = hi - 1, lo + 1e9 end
  end
  if hi == 0 then return sign .. string.format('%.0f', lo) end
  return sign .. string.format('%.0f%09.0f', hi, lo)
end

-- How to read texts so that they can be added and compared.
local function reader(...)
  for at = 1, select('#', ...) do
    if #select(at, ...) > SHORT then return exact end
  end
  return tonumber
end

-- Whether the magnitudes of three texts together pass the range of a counter.
local function overflow(a, b, c)
  local function magnitude(text)
    return exact(string.sub(text, 1, 1) == '-' and string.sub(text, 2) or text)
  end
  return out_of_range(magnitude(a) + magnitude(b) + magnitude(c))
end

-- Whether a <= b, for decimal texts of any u64.
local function up_to(a, b) return #a < #b or (#a == #b and a <= b) end

----------------------------------------------------------------------------------------------- the state

local function base_of(keys) return string.sub(keys[1], 1, -6) end

-- A step is a transaction in the append-only file, but Redis 7 may cut the file within one (its EXEC too),
-- go on behind the cut, and at the restart after that do the cut one as well: by halves, or whole and long
-- undone. So each step is counted where it begins, and says where it ends how many there have been: when
-- the file is read and the two differ, a step was done that never happened, and the state is worth nothing.
local steps, count = '', nil
-- Whether that is so, by the key of the counts: found out once in each life of the server.
local broken = {}

local function is_whole(key)
  if broken[key] == nil then
    local counts = redis.call('HMGET', key, 'begun', 'ended')
    broken[key] = counts[1] ~= counts[2]
  end
  return not broken[key]
end

local function write(...)
  if not count then
    -- Before the counts are touched.
    is_whole(steps)
    count = redis.call('HINCRBY', steps, 'begun', 1)
  end
  return redis.call(...)
end

-- State that is being thrown away, by its key: until it is restored nothing is done to it.
local wiping = {}

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1e6 + time[2]
end

-- A test moves time by argument; everywhere else the text is empty.
local function clock(text)
  if text == '' then return server_time() end
  return tonumber(text)
end

local function state_of(keys)
  local state = redis.call('HMGET', keys[1], 'phase', 'generation')
  local phase, generation = state[1], state[2]
  if not phase then return ABSENT, '' end
  local seen = alive[keys[1]] == generation
  if phase == 'rebuilding' then return seen and REBUILDING or ABSENT, generation end
  if not seen then return is_whole(base_of(keys) .. 'steps') and RESTARTED or ABSENT, generation end
  return phase == 'open' and OPEN or RESTORING, generation
end

-- Calls of these processes may be open: they are waited for, though the state has forgotten them.
local function expect(base, lease, members, first)
  local ends = string.format('%.0f -', server_time() + tonumber(lease))
  for at = first, #members do write('HSETNX', base .. 'members', members[at], ends) end
end

local function new_generation(keys, generation)
  local base = base_of(keys)
  write('DEL', base .. 'caught')
  write('HSET', keys[1], 'phase', 'restoring', 'generation', generation, 'since', server_time())
  alive[keys[1]] = generation
end

------------------------------------------------------------------------------------------ holds and gauges

-- HOLD: {granted, amount, settled, phase, running, tokens, expires, member, windows, gauges, minutes}
-- windows and gauges in the order of the scopes; a gauge is '' where none counts.
local GRANTED, AMOUNT, SETTLED, PHASE, RUNNING, TOKENS, EXPIRES, MEMBER, WINDOWS, GAUGES, MINUTES =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local HELD, FINISHED, GONE = 1, 2, 3

local function hold_of(base, id)
  local packed = redis.call('GET', base .. 'h:' .. id)
  return packed and cmsgpack.unpack(packed)
end

-- Keeps a hold, or forgets one that is over.
local function keep(base, id, hold)
  if hold[PHASE] == GONE and not hold[RUNNING] then
    write('DEL', base .. 'h:' .. id)
    write('ZREM', base .. 'exp', id)
  else
    write('SET', base .. 'h:' .. id, cmsgpack.pack(hold))
    local ends = hold[EXPIRES]
    if hold[PHASE] == FINISHED then ends = ends + FINISHED_KEPT end
    write('ZADD', base .. 'exp', ends, id)
  end
end

-- Adds to every window of a hold once. A text of 0 adds nothing.
local function add_to_windows(base, hold, field, change)
  if change == '0' then return end
  local seen = {}
  for _, window in ipairs(hold[WINDOWS]) do
    if not seen[window] then
      seen[window] = true
      write('HINCRBY', base .. 'w:' .. window, field, change)
    end
  end
end

-- Gives a slot back, and within the minute corrects requests and tokens.
local function leave_gauges(base, hold, requests, tokens)
  local seen = {}
  for at, budget in ipairs(hold[GAUGES]) do
    if budget ~= '' and not seen[budget] then
      seen[budget] = true
      local key = base .. 'g:' .. budget
      local gauge = redis.call('HMGET', key, 'm', 'r', 't', 'p')
      if gauge[1] then
        local running = math.max(tonumber(gauge[4]) - 1, 0)
        if tonumber(gauge[1]) == hold[MINUTES][at] then
          write('HSET', key, 'p', running, 'r', math.max(gauge[2] - requests, 0),
            't', math.max(gauge[3] + tokens, 0))
        else
          write('HSET', key, 'p', running)
        end
      end
    end
  end
  hold[RUNNING] = false
end

local function negated(text)
  if text == '0' then return text end
  if string.sub(text, 1, 1) == '-' then return string.sub(text, 2) end
  return '-' .. text
end

-- Takes what a hold still holds off its windows.
local function drop_money(base, hold)
  local change = negated(hold[AMOUNT])
  add_to_windows(base, hold, 'h', change)
  if hold[PHASE] == FINISHED then add_to_windows(base, hold, 'f', change) end
  hold[AMOUNT], hold[PHASE] = '0', GONE
end

local function know_window(base, window, ends)
  write('HSET', base .. 'w:' .. window, 'e', ends)
  write('ZADD', base .. 'windows', tonumber(ends) + WINDOW_KEPT, window)
end

local function rolled(gauge, minute)
  local known = tonumber(gauge[1] or -2)
  -- A clock a little behind counts in the present minute; one set back for good starts over.
  if minute > known or minute < known - 1 then return minute, 0, 0, true end
  return known, tonumber(gauge[2]), tonumber(gauge[3]), false
end

local function take_slot(key, minute, requests, tokens, running, lasts, fresh)
  write('HSET', key, 'm', minute, 'r', requests, 't', tokens, 'p', running)
  -- Once a minute, so that it outlives every call that began in it.
  if fresh then write('PEXPIRE', key, math.ceil(lasts / 1000) + 25 * 3600 * 1000) end
end

---------------------------------------------------------------------------------------------- reservation

-- Answers of `reserve`.
local GRANT, REPEAT, NO_MONEY, NO_RATE, CLOSED, STALE, NO_RANGE, LATE = 1, 2, 3, 4, 5, 6, 7, 8
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
    scopes[at] = {name = name, window = window, gauge = gauge, budget = gauge and budget or '', from = from}
  end

  -- How much all scopes grant; else the refusal that lasts longest: spend, a rate, open holds.
  local granted, smallest, short = number(amount), number(least), false
  for _, scope in ipairs(scopes) do
    local window = scope.window
    if number == exact and overflow(window.u, window.h, amount) then
      return {NO_RANGE, now}
    end
    if args[scope.from + 4] ~= '' then
      local room = number(args[scope.from + 4]) - number(window.u) - number(window.h)
      if room < smallest then
        scope.short, short = true, true
      elseif room < granted then
        granted = room
      end
    end
  end
  local function refused(at, by_holds)
    local window = scopes[at].window
    return {NO_MONEY, now, at, window.u, window.h, window.f, by_holds}
  end
  if short then
    for at, scope in ipairs(scopes) do
      local window = scope.window
      if scope.short
        and number(args[scope.from + 4]) < number(window.u) + number(window.f) + smallest then
        return refused(at, 0)
      end
    end
  end
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
  for at, scope in ipairs(scopes) do
    if scope.short then return refused(at, 1) end
  end

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
  local hold = {held, held, '0', HELD, true, tokens, expires, args[9], {}, {}, {}}
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

-- Whether the event is in what is settled. An empty field is no event.
local function is_settled(base, field, pseq)
  if field == '' then return false end
  return up_to(pseq, redis.call('HGET', base .. 'marks', field) or '0')
end

-- The call is over. Answers whether it cost more than was held.
local function finish_hold(base, id, hold, actual, tokens, settled)
  if hold[RUNNING] then leave_gauges(base, hold, 0, tokens - hold[TOKENS]) end
  local over = 0
  if hold[PHASE] == HELD then
    if settled then
      drop_money(base, hold)
    else
      local number = reader(actual, hold[SETTLED], hold[AMOUNT])
      local zero, left = number('0'), number(actual) - number(hold[SETTLED])
      if left < zero then left = zero end
      local change = left - number(hold[AMOUNT])
      if zero < change then
        over = 1
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
  local settled = is_settled(base, args[4], args[5])
  local answer = {1, finish_hold(base, args[1], hold, args[2], tonumber(args[3]), settled)}
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

-- args: now, most
local function sweep(keys, args)
  local base, now, most = base_of(keys), clock(args[1]), args[2]
  local late = redis.call('ZRANGEBYSCORE', base .. 'exp', '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(late) do
    local hold = hold_of(base, id)
    if hold then
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
  return #late
end

----------------------------------------------------------------------------------------------- settlement

-- Answers of `settle`, `caught_up` and the steps of a restoration.
local LOST, APPLIED, REPEATED, FENCED, OVERFLOWS, WAITING, ADMITS = 0, 1, 2, 3, 4, 5, 6

local function fenced(base)
  return {FENCED, redis.call('HGETALL', base .. 'marks'), redis.call('HGETALL', base .. 'next')}
end

-- Sums of changes per window, written at the end; each sum stays where a double is exact.
local function change_window(base, changes, field, window, change)
  if #change > SHORT then
    write('HINCRBY', base .. 'w:' .. window, field, change)
    return
  end
  local sum = (changes[window] or 0) + tonumber(change)
  if sum > HUGE or sum < -HUGE then
    write('HINCRBY', base .. 'w:' .. window, field, string.format('%.0f', sum))
    sum = 0
  end
  changes[window] = sum
end

local function settle_hold(base, held, finished, id, amount, last)
  local hold = hold_of(base, id)
  if not hold then return false end
  if hold[PHASE] ~= GONE then
    local number = reader(amount, hold[AMOUNT], hold[SETTLED])
    local zero, before = number('0'), number(hold[AMOUNT])
    local left = last and zero or before - number(amount)
    if left < zero then left = zero elseif before < left then left = before end
    local change, seen = text_of(left - before), {}
    for _, window in ipairs(hold[WINDOWS]) do
      if not seen[window] then
        seen[window] = true
        change_window(base, held, 'h', window, change)
        if hold[PHASE] == FINISHED then change_window(base, finished, 'f', window, change) end
      end
    end
    hold[AMOUNT] = text_of(left)
    if not overflow(hold[SETTLED], amount, '0') then
      hold[SETTLED] = text_of(number(hold[SETTLED]) + number(amount))
    end
    if last then hold[PHASE] = GONE end
    keep(base, id, hold)
  end
  return true
end

-- args: counts of marks, offsets, windows and holds; then marks (field, from, to), offsets (partition,
-- from, to), windows (start:budget, end, amount), holds (id, amount, 1 if last)
local function settle(keys, args)
  local base = base_of(keys)
  local phase = state_of(keys)
  if phase == ABSENT or phase == REBUILDING then return {LOST} end
  local marks, offsets, deltas, holds =
    tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local marks_at = 5
  local offsets_at = marks_at + 3 * marks
  local deltas_at = offsets_at + 3 * offsets
  local holds_at = deltas_at + 3 * deltas

  local repeated, follows = true, true
  for at = marks_at, offsets_at - 1, 3 do
    local stands = redis.call('HGET', base .. 'marks', args[at]) or '0'
    repeated = repeated and up_to(args[at + 2], stands)
    follows = follows and stands == args[at + 1]
  end
  if repeated then return {REPEATED} end
  for at = offsets_at, deltas_at - 1, 3 do
    follows = follows and (redis.call('HGET', base .. 'next', args[at]) or '') == args[at + 1]
  end
  if not follows then return fenced(base) end
  local limited, fresh = {}, {}
  for at = deltas_at, holds_at - 1, 3 do
    local window, amount = args[at], args[at + 2]
    local known = redis.call('HMGET', base .. 'w:' .. window, 'u', 'l', 'e')
    local used = known[1] or '0'
    if #used > SHORT or #amount > SHORT then
      if out_of_range(exact(used) + exact(amount)) then return {OVERFLOWS, (at - deltas_at) / 3} end
    end
    if known[2] and known[2] ~= '' then limited[#limited + 1] = window end
    if not known[3] then fresh[#fresh + 1] = at end
  end
  for _, at in ipairs(fresh) do know_window(base, args[at], args[at + 1]) end

  local held, finished, unheld = {}, {}, 0
  for at = holds_at, #args, 3 do
    if not settle_hold(base, held, finished, args[at], args[at + 1], args[at + 2] == '1') then
      unheld = unheld + 1
    end
  end
  for window, change in pairs(held) do
    write('HINCRBY', base .. 'w:' .. window, 'h', string.format('%.0f', change))
  end
  for window, change in pairs(finished) do
    write('HINCRBY', base .. 'w:' .. window, 'f', string.format('%.0f', change))
  end
  for at = deltas_at, holds_at - 1, 3 do
    write('HINCRBY', base .. 'w:' .. args[at], 'u', args[at + 2])
  end
  for at = marks_at, offsets_at - 1, 3 do write('HSET', base .. 'marks', args[at], args[at + 2]) end
  for at = offsets_at, deltas_at - 1, 3 do write('HSET', base .. 'next', args[at], args[at + 2]) end

  local over = 0
  for _, window in ipairs(limited) do
    local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'h', 'l')
    local used, all, limit = sums[1] or '0', sums[2] or '0', sums[3]
    local number = reader(used, all, limit)
    if number(limit) < number(used) + number(all) then over = over + 1 end
  end
  return {APPLIED, unheld, over}
end

-- args: start:budget of each window
local function spend(keys, args)
  local base, answer = base_of(keys), {}
  for _, window in ipairs(args) do
    local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'h', 'f')
    for field = 1, 3 do answer[#answer + 1] = sums[field] or '0' end
  end
  return answer
end

local function standing(keys)
  return fenced(base_of(keys))
end

-- Everything at one instant. args: now, grace
local function snapshot(keys, args)
  local base, overdue = base_of(keys), clock(args[1]) - tonumber(args[2])
  local answer = fenced(base)
  answer[4] = redis.call('ZCARD', base .. 'exp')
  answer[5] = redis.call('ZCOUNT', base .. 'exp', '-inf', string.format('%.0f', overdue))
  for _, window in ipairs(redis.call('ZRANGE', base .. 'windows', 0, -1)) do
    local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'h', 'f')
    answer[#answer + 1] = window
    for field = 1, 3 do answer[#answer + 1] = sums[field] or '0' end
  end
  return answer
end

---------------------------------------------------------------------------------------------- restoration

-- Makes the caller the one who restores; 1 behind the answer tells it to throw everything away first.
-- args: token, lasts of the lock, force, lease, known processes
local function begin(keys, args)
  local base, token, now = base_of(keys), args[1], server_time()
  local phase, holder = state_of(keys)
  local whole = is_whole(base .. 'steps')
  if args[3] == '0' then
    if phase > REBUILDING then return {APPLIED} end
    local lasts = tonumber(redis.call('HGET', keys[1], 'until') or 0)
    if phase == REBUILDING and holder ~= token and now < lasts then return {WAITING} end
  end
  write('HSET', keys[1], 'phase', 'rebuilding', 'generation', token, 'until', now + tonumber(args[2]))
  alive[keys[1]] = token
  expect(base, args[4], args, 5)
  if not whole then wiping[keys[1]] = true end
  return {ADMITS, whole and 0 or 1}
end

local function restores(keys, token)
  local phase, holder = state_of(keys)
  return phase == REBUILDING and holder == token
end

-- Sets the spend of some windows to zero. args: token, lasts of the lock, cursor
local function restore_nothing(keys, args)
  if not restores(keys, args[1]) then return {LOST} end
  local base = base_of(keys)
  write('HSET', keys[1], 'until', server_time() + tonumber(args[2]))
  local found = redis.call('ZSCAN', base .. 'windows', args[3], 'COUNT', 1000)
  for at = 1, #found[2], 2 do
    local key = base .. 'w:' .. found[2][at]
    if redis.call('EXISTS', key) == 1 then write('HSET', key, 'u', 0) end
  end
  return {APPLIED, found[1]}
end

-- args: token, lasts of the lock, windows (start:budget, end, used)
local function restore_windows(keys, args)
  if not restores(keys, args[1]) then return {LOST} end
  local base = base_of(keys)
  write('HSET', keys[1], 'until', server_time() + tonumber(args[2]))
  for at = 3, #args, 3 do
    local key = base .. 'w:' .. args[at]
    if not redis.call('HGET', key, 'e') then know_window(base, args[at], args[at + 1]) end
    write('HSET', key, 'u', args[at + 2])
  end
  return {APPLIED}
end

-- args: token, generation, count of marks, marks (field, pseq), offsets (partition, offset)
local function restore_end(keys, args)
  if not restores(keys, args[1]) then return {LOST} end
  local base, marks = base_of(keys), tonumber(args[3])
  write('DEL', base .. 'marks', base .. 'next')
  for at = 4, 3 + 2 * marks, 2 do write('HSET', base .. 'marks', args[at], args[at + 1]) end
  for at = 4 + 2 * marks, #args, 2 do write('HSET', base .. 'next', args[at], args[at + 1]) end
  write('HDEL', keys[1], 'until')
  if wiping[keys[1]] then
    -- Nothing of what was done by halves is left.
    redis.call('DEL', steps)
    count = redis.call('HINCRBY', steps, 'begun', 1)
    broken[steps], wiping[keys[1]] = false, nil
  end
  new_generation(keys, args[2])
  return {APPLIED}
end

-- Whether a process that lives has yet to tell of its calls.
local function awaits(base, generation)
  local now, members = server_time(), redis.call('HGETALL', base .. 'members')
  for at = 1, #members, 2 do
    local lease, told = string.match(members[at + 1], '^(%S+) (%S+)$')
    if told ~= generation then
      if now < tonumber(lease) then return true end
      write('HDEL', base .. 'members', members[at])
    end
  end
  return false
end

-- args: a fresh generation, pause, count of partitions that there are (0: the caller reads them all),
-- count of the caller's, those, count of marks, those (field, pseq), lease, known processes
local function caught_up(keys, args)
  local base = base_of(keys)
  local phase, generation = state_of(keys)
  if phase <= REBUILDING then return {LOST} end
  local all, mine = tonumber(args[3]), tonumber(args[4])
  local marks = tonumber(args[5 + mine])
  local lease_at = 6 + mine + 2 * marks
  for at = 6 + mine, lease_at - 1, 2 do
    if not is_settled(base, args[at], args[at + 1]) then return fenced(base) end
  end
  if phase == OPEN then return {ADMITS} end
  if phase == RESTARTED then
    generation = args[1]
    new_generation(keys, generation)
    expect(base, args[lease_at], args, lease_at + 1)
  end
  local function catch(partition)
    local known = redis.call('SISMEMBER', base .. 'caught', partition) == 1
    if not known then write('SADD', base .. 'caught', partition) end
  end
  if all == 0 then catch('all') end
  for at = 5, 4 + mine do catch(args[at]) end
  local caught = redis.call('SISMEMBER', base .. 'caught', 'all') == 1
    or (all > 0 and redis.call('SCARD', base .. 'caught') >= all)
  local since = tonumber(redis.call('HGET', keys[1], 'since'))
  if not caught or server_time() < since + tonumber(args[2]) or awaits(base, generation) then
    return {WAITING, generation}
  end
  write('HSET', keys[1], 'phase', 'open')
  return {ADMITS}
end

------------------------------------------------------------------------------------------------- processes

-- A process lives. args: member, lease, fields of marks that it wants to know
-- Answers: now, phase, generation, 1 if it has told of its calls, windows, pseqs; then all processes.
local function tick(keys, args)
  local base, member, now = base_of(keys), args[1], server_time()
  local phase, generation = state_of(keys)
  local known = redis.call('HGET', base .. 'members', member)
  local told = known and string.match(known, ' (%S+)$') or '-'
  local name = string.match(member, '^(.+/)')
  if not known and name then
    -- The last life of a process of that name is over: nothing is to be waited for.
    for _, other in ipairs(redis.call('HKEYS', base .. 'members')) do
      if string.sub(other, 1, #name) == name then write('HDEL', base .. 'members', other) end
    end
  end
  write('HSET', base .. 'members', member, string.format('%.0f %s', now + tonumber(args[2]), told))
  local answer = {now, phase, generation, told == generation and 1 or 0, redis.call('ZCARD', base .. 'windows')}
  for at = 3, #args do answer[#answer + 1] = redis.call('HGET', base .. 'marks', args[at]) or '0' end
  for _, name in ipairs(redis.call('HKEYS', base .. 'members')) do answer[#answer + 1] = name end
  return answer
end

-- A process ends by itself, with no call open.
local function leave(keys, args)
  return write('HDEL', base_of(keys) .. 'members', args[1])
end

-- Holds of a process, some at a time. args: member, cursor
local function holds_of(keys, args)
  local base, mine = base_of(keys), {}
  local found = redis.call('ZSCAN', base .. 'exp', args[2], 'COUNT', 1000)
  for at = 1, #found[2], 2 do
    local hold = hold_of(base, found[2][at])
    if hold and hold[MEMBER] == args[1] then mine[#mine + 1] = found[2][at] end
  end
  return {found[1], mine}
end

-- What the process no longer knows is over, whatever rolled back state says. args: holds
local function forget(keys, args)
  local base = base_of(keys)
  for _, id in ipairs(args) do
    local hold = hold_of(base, id)
    if hold then
      if hold[RUNNING] then leave_gauges(base, hold, 0, 0) end
      drop_money(base, hold)
      keep(base, id, hold)
    end
  end
  return #args
end

-- One call that the process knows, as it is: made where the state has lost it.
local function tell_hold(base, now, member, call)
  local hold, over = hold_of(base, call.id), call.actual ~= ''
  local settled = over and is_settled(base, call.field, call.pseq)
  if not hold then
    if settled then return end
    hold = {call.amount, call.amount, '0', HELD, true, call.tokens, call.expires, member,
      call.windows, call.gauges, call.minutes}
    for at, window in ipairs(call.windows) do
      if not redis.call('HGET', base .. 'w:' .. window, 'e') then know_window(base, window, call.ends[at]) end
    end
    add_to_windows(base, hold, 'h', call.amount)
    local seen = {}
    for at, budget in ipairs(call.gauges) do
      if budget ~= '' and not seen[budget] then
        seen[budget] = true
        local key = base .. 'g:' .. budget
        local counts = redis.call('HMGET', key, 'm', 'r', 't', 'p')
        local minute, requests, tokens, fresh = rolled(counts, math.floor(now / MINUTE))
        if minute == call.minutes[at] then requests, tokens = requests + 1, tokens + call.tokens end
        local lasts = math.max(call.expires - now, 0)
        take_slot(key, minute, requests, tokens, tonumber(counts[4] or 0) + 1, lasts, fresh)
      end
    end
    keep(base, call.id, hold)
  end
  if over then finish_hold(base, call.id, hold, call.actual, call.used, settled) end
end

-- args: member, now, then calls: id, amount, actual (empty while it runs), tokens, tokens in the end,
-- field and pseq of its event, expires, count of scopes, scopes (start:budget, end, budget of the gauge,
-- minute)
local function tell(keys, args)
  local phase = state_of(keys)
  if phase <= REBUILDING then return {LOST} end
  local base, now, at = base_of(keys), clock(args[2]), 3
  while args[at] do
    local call = {
      id = args[at], amount = args[at + 1], actual = args[at + 2], tokens = tonumber(args[at + 3]),
      used = tonumber(args[at + 4]), field = args[at + 5], pseq = args[at + 6],
      expires = tonumber(args[at + 7]), windows = {}, ends = {}, gauges = {}, minutes = {},
    }
    local scopes = tonumber(args[at + 8])
    at = at + 9
    for scope = 1, scopes do
      call.windows[scope], call.ends[scope], call.gauges[scope] = args[at], args[at + 1], args[at + 2]
      call.minutes[scope] = tonumber(args[at + 3])
      at = at + 4
    end
    tell_hold(base, now, args[1], call)
  end
  return {APPLIED}
end

-- The process has told of all its calls. args: member, generation, lease
local function told(keys, args)
  local phase, generation = state_of(keys)
  if phase <= REBUILDING or generation ~= args[2] then return {LOST} end
  write('HSET', base_of(keys) .. 'members', args[1],
    string.format('%.0f %s', server_time() + tonumber(args[3]), generation))
  return {APPLIED}
end

local function version()
  return {VERSION, BUILD}
end

-- One step. `nothing` is the answer while the state is thrown away; absent, the step is part of that.
local function step(callback, nothing)
  return function(keys, args)
    if nothing and wiping[keys[1]] then return nothing end
    steps, count = base_of(keys) .. 'steps', nil
    local answer = callback(keys, args)
    if count and not broken[steps] then redis.call('HSET', steps, 'ended', count) end
    return answer
  end
end

local function register(name, callback, nothing)
  redis.register_function('tollgate_budgets_' .. name, step(callback, nothing))
end

-- What gives memory back is never refused for want of it.
local function register_always(name, callback, nothing)
  redis.register_function({
    function_name = 'tollgate_budgets_' .. name, callback = step(callback, nothing), flags = {'allow-oom'},
  })
end

register('reserve', reserve, {CLOSED, 0, ABSENT, ''})
register_always('finish', finish, {0, ABSENT, ''})
register_always('release', release, 0)
register_always('sweep', sweep, 0)
register_always('settle', settle, {LOST})
register_always('spend', spend)
register_always('standing', standing)
register_always('snapshot', snapshot)
register('begin', begin)
register('restore_nothing', restore_nothing)
register('restore_windows', restore_windows)
register('restore_end', restore_end)
register('caught_up', caught_up)
register('tick', tick)
register_always('leave', leave)
register_always('holds_of', holds_of)
register_always('forget', forget, 0)
register('tell', tell, {LOST})
register('told', told)
redis.register_function('tollgate_budgets_version', version)

-- A process lives. args: member, lease, fields of marks that it wants to know
-- Answers: now, phase, generation, 1 if it has told of its calls, windows, pseqs; then all processes.
local function tick(keys, args)
  local base, members, now = base_of(keys), root_of(keys) .. 'members', server_time()
  local phase, generation = state_of(keys)
  local member = args[1]
  local known = redis.call('HGET', members, member)
  local told = known and string.match(known, ' (%S+)$') or '-'
  local name = string.match(member, '^(.+/)')
  if not known and name then
    -- The last life of a process of that name is over: nothing is to be waited for.
    for _, other in ipairs(redis.call('HKEYS', members)) do
      if string.sub(other, 1, #name) == name then write('HDEL', members, other) end
    end
  end
  write('HSET', members, member, string.format('%.0f %s', now + tonumber(args[2]), told))
  local answer = {now, phase, generation, told == generation and 1 or 0, redis.call('ZCARD', base .. 'windows')}
  for at = 3, #args do answer[#answer + 1] = redis.call('HGET', base .. 'marks', args[at]) or '0' end
  for _, name in ipairs(redis.call('HKEYS', members)) do answer[#answer + 1] = name end
  return answer
end

-- A process ends by itself, with no call open.
local function leave(keys, args)
  return write('HDEL', root_of(keys) .. 'members', args[1])
end

-- Holds of a process, some at a time, then those of its former lives: in progress, and abandoned, whose money
-- waits for an event. args: member, cursor
local function holds_of(keys, args)
  local base, mine, former, waiting = base_of(keys), {}, {}, {}
  local name = string.match(args[1], '^(.+/)')
  local found = redis.call('ZSCAN', base .. 'exp', args[2], 'COUNT', 1000)
  for at = 1, #found[2], 2 do
    local hold = hold_of(base, found[2][at])
    if hold and hold[MEMBER] == args[1] then
      mine[#mine + 1] = found[2][at]
    elseif hold and name and string.sub(hold[MEMBER], 1, #name) == name then
      if hold[RUNNING] then
        former[#former + 1] = found[2][at]
      elseif hold[PHASE] == HELD then
        waiting[#waiting + 1] = found[2][at]
      end
    end
  end
  return {found[1], mine, former, waiting}
end

-- The process that ran these calls is gone: their slots come back, and their money waits for the events
-- that its next life writes. args: holds
local function abandon(keys, args)
  local base = base_of(keys)
  for _, id in ipairs(args) do
    local hold = hold_of(base, id)
    if hold and hold[RUNNING] then
      leave_gauges(base, hold, 0, 0)
      keep(base, id, hold)
    end
  end
  return #args
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
  elseif hold[PHASE] == HELD then
    -- It was rolled back to before it was raised.
    local number = reader(call.amount, hold[GRANTED], hold[AMOUNT])
    if number(hold[GRANTED]) < number(call.amount) then
      raise_hold(base, call.id, hold, text_of(number(call.amount) - number(hold[GRANTED])))
    end
  end
  if over then finish_hold(base, call.id, hold, call, settled) end
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
  write('HSET', root_of(keys) .. 'members', args[1],
    string.format('%.0f %s', server_time() + tonumber(args[3]), generation))
  return {APPLIED}
end

local function version()
  return {VERSION, BUILD}
end


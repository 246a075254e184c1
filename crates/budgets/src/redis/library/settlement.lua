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

-- Windows that hold something else than their calls, with what they hold too much.
local function astray(base)
  local sums, found = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', base .. 'exp', 0, -1)) do
    local hold = hold_of(base, id)
    local seen = {}
    for _, window in ipairs(hold and hold[WINDOWS] or {}) do
      if not seen[window] then
        seen[window] = true
        sums[window] = (sums[window] or exact('0')) + exact(hold[AMOUNT])
      end
    end
  end
  for _, window in ipairs(redis.call('ZRANGE', base .. 'windows', 0, -1)) do
    local apart = exact(redis.call('HGET', base .. 'w:' .. window, 'h') or '0') - (sums[window] or exact('0'))
    if apart ~= exact('0') then found[#found + 1], found[#found + 2] = window, text_of(apart) end
  end
  return found
end

-- Everything at one instant. args: now, grace, and where holds are to be counted, so many of them at most: they
-- take a place more in the answer, empty where there are more of them.
local function snapshot(keys, args)
  local base, overdue = base_of(keys), clock(args[1]) - tonumber(args[2])
  local answer = fenced(base)
  answer[4] = redis.call('ZCARD', base .. 'exp')
  answer[5] = redis.call('ZCOUNT', base .. 'exp', '-inf', string.format('%.0f', overdue))
  if args[3] then answer[6] = answer[4] > tonumber(args[3]) and '' or astray(base) end
  for _, window in ipairs(redis.call('ZRANGE', base .. 'windows', 0, -1)) do
    local sums = redis.call('HMGET', base .. 'w:' .. window, 'u', 'h', 'f')
    answer[#answer + 1] = window
    for field = 1, 3 do answer[#answer + 1] = sums[field] or '0' end
  end
  return answer
end


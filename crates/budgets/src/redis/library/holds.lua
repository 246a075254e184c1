-- HOLD: {granted, amount, settled, phase, running, tokens, expires, member, windows, gauges, minutes,
-- field and pseq of its last event} windows and gauges in the order of the scopes; a gauge is '' where none
-- counts. The event is there once the call is over, where its process knows it.
local GRANTED, AMOUNT, SETTLED, PHASE, RUNNING, TOKENS, EXPIRES, MEMBER, WINDOWS, GAUGES, MINUTES =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local FIELD, PSEQ = 12, 13
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


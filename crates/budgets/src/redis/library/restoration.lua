-- Makes the caller the one who restores; an epoch behind the answer tells it to throw away what is of none
-- or of an earlier one first.
-- args: token, lasts of the lock, force, lease, known processes
local function begin(keys, args)
  local token, now = args[1], server_time()
  local phase, holder = state_of(keys)
  local whole = is_whole(root_of(keys) .. 'steps')
  if args[3] == '0' then
    if phase > REBUILDING then return {APPLIED} end
    local lasts = tonumber(redis.call('HGET', keys[1], 'until') or 0)
    if phase == REBUILDING and holder ~= token and now < lasts then return {WAITING} end
  end
  write('HSET', keys[1], 'phase', 'rebuilding', 'generation', token, 'until', now + tonumber(args[2]))
  alive[keys[1]] = token
  expect(keys, args[4], args, 5)
  if whole then return {ADMITS} end
  local epoch = string.format('%.0f', now)
  write('HSET', keys[1], 'epoch', epoch)
  wiping[keys[1]] = true
  return {ADMITS, epoch}
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
local function awaits(keys, generation)
  local key = root_of(keys) .. 'members'
  local now, members = server_time(), redis.call('HGETALL', key)
  for at = 1, #members, 2 do
    local lease, told = string.match(members[at + 1], '^(%S+) (%S+)$')
    if told ~= generation then
      if now < tonumber(lease) then return true end
      write('HDEL', key, members[at])
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
    expect(keys, args[lease_at], args, lease_at + 1)
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
  if not caught or server_time() < since + tonumber(args[2]) or awaits(keys, generation) then
    return {WAITING, generation}
  end
  write('HSET', keys[1], 'phase', 'open')
  return {ADMITS}
end


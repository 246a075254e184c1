local function root_of(keys) return string.sub(keys[1], 1, -6) end

-- State that was thrown away goes on under other names. A step that was cut (see `write`) may be done at a
-- later start, before the keys of its time are thrown away again; what it makes that was not there then
-- would stay.
local function base_of(keys)
  local epoch = redis.call('HGET', keys[1], 'epoch')
  return root_of(keys) .. (epoch and epoch .. ':' or '')
end

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
  if not seen then return is_whole(root_of(keys) .. 'steps') and RESTARTED or ABSENT, generation end
  return phase == 'open' and OPEN or RESTORING, generation
end

-- Calls of these processes may be open: they are waited for, though the state has forgotten them.
local function expect(keys, lease, members, first)
  local ends = string.format('%.0f -', server_time() + tonumber(lease))
  for at = first, #members do write('HSETNX', root_of(keys) .. 'members', members[at], ends) end
end

local function new_generation(keys, generation)
  write('DEL', base_of(keys) .. 'caught')
  write('HSET', keys[1], 'phase', 'restoring', 'generation', generation, 'since', server_time())
  alive[keys[1]] = generation
end


-- One step. `nothing` is the answer while the state is thrown away; absent, the step is part of that.
local function step(callback, nothing)
  return function(keys, args)
    if nothing and wiping[keys[1]] then return nothing end
    steps, count = root_of(keys) .. 'steps', nil
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
register('raise', raise, {CLOSED, 0, ABSENT, ''})
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
register_always('abandon', abandon, 0)
register('tell', tell, {LOST})
register('told', told)
redis.register_function('tollgate_budgets_version', version)

-- KEYS record queue epoch; ARGV age in ms at which a session may sleep, force, status it gets, and the woken_at that was
-- judged ('': whatever it is).
local FUTURE_MS = 5000
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'unknown'
end
if redis.call('GET', KEYS[3]) ~= current_run_id() then
  return 'gated'
end
if ARGV[4] ~= '' and (redis.call('HGET', KEYS[1], 'woken_at') or '0') ~= ARGV[4] then
  -- Whoever woke it will patch, or has: without its demand the pod that comes would be taken down again.
  return 'active'
end
local now = now_ms()
local last_active = tonumber(redis.call('HGET', KEYS[1], 'last_active') or '0')
if last_active > now + FUTURE_MS then
  last_active = now
  redis.call('HSET', KEYS[1], 'last_active', integer(now))
end
local found = tally(KEYS[2], KEYS[1])
if found.waiting > 0 then
  return 'waiting'
end
if ARGV[2] ~= '1' then
  if now - last_active < tonumber(ARGV[1]) then
    return 'active'
  end
  if found.outside > 0 then
    rewrite(KEYS[2], {}, true)
    redis.call('HSET', KEYS[1], 'last_active', integer(now), 'status', 'active')
    return 'adopted'
  end
end
rewrite(KEYS[2], {}, false)
redis.call('HSET', KEYS[1], 'released_at', integer(now), 'status', ARGV[3])
return 'released'

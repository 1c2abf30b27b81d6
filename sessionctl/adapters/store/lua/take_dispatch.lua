-- KEYS record lock dispatch:pending; ARGV uuid, owner, lifetime in ms. Answers {'ok', number}, {'taken'} or {'unknown'}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- What waited was forgotten with the record.
  redis.call('DEL', KEYS[2])
  redis.call('SREM', KEYS[3], ARGV[1])
  return { 'unknown' }
end
local fence = redis.call('HGET', KEYS[1], 'fence') or ''
local number, owner = string.match(fence, '^(%d+):(.*)$')
if redis.call('GET', KEYS[2]) == fence and holds(KEYS[1], fence) then
  if owner ~= ARGV[2] then
    return { 'taken' }
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  return { 'ok', number }
end
-- First what needs no memory: deliveries go on where none is left, for they end messages.
redis.call('DEL', KEYS[2])
-- The clock, so that it is greater than one which this Redis has forgotten.
number = integer(math.max(now_us(), (tonumber(number) or 0) + 1))
redis.call('HSET', KEYS[1], 'fence', number .. ':' .. ARGV[2], 'fence_run', current_run_id())
redis.call('SET', KEYS[2], number .. ':' .. ARGV[2], 'PX', ARGV[3])
return { 'ok', number }

-- KEYS user-index; ARGV uuid, limit (0: none), lifetime of a reservation in ms, then the prefixes of records, tombstones
-- and reservations. 1: the session is counted.
local function counts(uuid)
  if redis.call('EXISTS', ARGV[5] .. uuid) == 1 then
    return false
  end
  return redis.call('EXISTS', ARGV[4] .. uuid, ARGV[6] .. uuid) > 0
end
local others, known = 0, false
for _, uuid in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not counts(uuid) then
    redis.call('SREM', KEYS[1], uuid)
  elseif uuid == ARGV[1] then
    known = true
  else
    others = others + 1
  end
end
local limit = tonumber(ARGV[2])
if not known and limit > 0 and others >= limit then
  return 0
end
redis.call('SADD', KEYS[1], ARGV[1])
if redis.call('EXISTS', ARGV[4] .. ARGV[1]) == 0 then
  redis.call('SET', ARGV[6] .. ARGV[1], '1', 'PX', ARGV[3])
end
return 1

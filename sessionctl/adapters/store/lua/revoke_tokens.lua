-- KEYS record. Answers the new epoch; without a record no token is valid anyway.
local now = now_us()
if redis.call('EXISTS', KEYS[1]) == 1 then
  now = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'token_epoch') or '0') + 1)
  redis.call('HSET', KEYS[1], 'token_epoch', integer(now))
end
return integer(now)

-- KEYS record. Answers the number that valid tokens carry; without a record the present moment, which none carries.
local now = integer(now_us())
if redis.call('EXISTS', KEYS[1]) == 0 then
  return now
end
redis.call('HSETNX', KEYS[1], 'token_epoch', now)
return redis.call('HGET', KEYS[1], 'token_epoch')

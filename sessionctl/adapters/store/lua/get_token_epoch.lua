-- KEYS record. Answers the number that valid tokens carry; without a record the present moment, which none carries. A
-- record without one may have lost it in a loss of Redis, and a revocation with it: it gets another than any before. In
-- microseconds, so that no two are the same.
local now = integer(now_us())
if redis.call('EXISTS', KEYS[1]) == 0 then
  return now
end
redis.call('HSETNX', KEYS[1], 'token_epoch', now)
return redis.call('HGET', KEYS[1], 'token_epoch')

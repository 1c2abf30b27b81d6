-- KEYS tombstone record queue events marks dispatch:pending user-index epoch lock; ARGV caps, prefix and lifetime of
-- ended, waiting:bytes, uuid, lifetime in ms, reason, only if nobody wants it. An accepted message has its outcome before its session is
-- gone. A wake before this leaves its demand, and one after it finds the tombstone.
local uuid, lifetime, reason, unwanted = unpack(ARGV, 8)
if unwanted == '1' and (
  redis.call('GET', KEYS[8]) ~= current_run_id() or redis.call('EXISTS', KEYS[1]) == 1
  or redis.call('EXISTS', KEYS[2]) == 0 or redis.call('EXISTS', KEYS[3]) == 1
) then
  return 0
end
redis.call('SET', KEYS[1], integer(now_ms()), 'PX', lifetime)
settle(stream_of(KEYS[4], KEYS[5], KEYS[2], KEYS[1]), KEYS[3], KEYS[6], uuid, 'cancelled', reason)
redis.call('DEL', KEYS[2], KEYS[3], KEYS[9])
redis.call('PEXPIRE', KEYS[4], lifetime)
redis.call('PEXPIRE', KEYS[5], lifetime)
redis.call('SREM', KEYS[7], uuid)
return 1

-- KEYS tombstone record queue events dispatch:pending user-index epoch; ARGV uuid, lifetime in ms, only if nobody wants
-- it. A wake before this leaves its demand, and one after it finds the tombstone.
if ARGV[3] == '1' and (
  redis.call('GET', KEYS[7]) ~= current_run_id() or redis.call('EXISTS', KEYS[1]) == 1
  or redis.call('EXISTS', KEYS[2]) == 0 or redis.call('EXISTS', KEYS[3]) == 1
) then
  return 0
end
redis.call('SET', KEYS[1], integer(now_ms()), 'PX', ARGV[2])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('PEXPIRE', KEYS[4], ARGV[2])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('SREM', KEYS[6], ARGV[1])
return 1

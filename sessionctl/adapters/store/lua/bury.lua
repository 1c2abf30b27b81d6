-- KEYS tombstone record queue events marks dispatch:pending user-index epoch; ARGV uuid, lifetime in ms, reason, max
-- length, max bytes, only if nobody wants it. An accepted message has its outcome before its session is gone.
-- A wake before this leaves its demand, and one after it finds the tombstone.
if ARGV[6] == '1' and (
  redis.call('GET', KEYS[8]) ~= current_run_id() or redis.call('EXISTS', KEYS[1]) == 1
  or redis.call('EXISTS', KEYS[2]) == 0 or redis.call('EXISTS', KEYS[3]) == 1
) then
  return 0
end
redis.call('SET', KEYS[1], integer(now_ms()), 'PX', ARGV[2])
settle({
  events = KEYS[4], marks = KEYS[5], record = KEYS[2], tombstone = KEYS[1],
  max_length = tonumber(ARGV[4]), max_bytes = tonumber(ARGV[5]),
}, KEYS[3], KEYS[6], ARGV[1], 'cancelled', ARGV[3])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('PEXPIRE', KEYS[4], ARGV[2])
redis.call('PEXPIRE', KEYS[5], ARGV[2])
redis.call('SREM', KEYS[7], ARGV[1])
return 1

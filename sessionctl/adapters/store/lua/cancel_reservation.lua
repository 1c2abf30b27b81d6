-- KEYS user-index record reservation; ARGV uuid. A session that was made stays counted.
redis.call('DEL', KEYS[3])
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[1], ARGV[1])
end
return 1

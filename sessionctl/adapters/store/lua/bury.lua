-- KEYS tombstone record queue events dispatch:pending user-index; ARGV uuid, lifetime in ms.
redis.call('SET', KEYS[1], integer(now_ms()), 'PX', ARGV[2])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('PEXPIRE', KEYS[4], ARGV[2])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('SREM', KEYS[6], ARGV[1])
return 1

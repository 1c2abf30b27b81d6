-- KEYS code; ARGV uuid, lifetime in ms. Never over one that is there: it may be used already.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX')
return 1

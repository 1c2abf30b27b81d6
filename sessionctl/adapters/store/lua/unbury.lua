-- KEYS tombstone record events user-index; ARGV uuid, last_active, then fields.
redis.call('DEL', KEYS[1])
redis.call('PERSIST', KEYS[3])
write_record(KEYS[2], KEYS[4], ARGV[1], { unpack(ARGV, 3) }, ARGV[2])
return 1

-- KEYS tombstone record events marks user-index; ARGV uuid, last_active, then fields.
redis.call('DEL', KEYS[1])
write_record({ record = KEYS[2], index = KEYS[5], history = { KEYS[3], KEYS[4] } }, ARGV[1], { unpack(ARGV, 3) }, ARGV[2])
return 1

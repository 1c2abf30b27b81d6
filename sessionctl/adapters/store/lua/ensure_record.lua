-- KEYS record queue tombstone user-index events marks; ARGV uuid, awake, last_active, then fields. 0: buried, nothing
-- written.
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
if redis.call('HEXISTS', KEYS[1], 'user_id') == 0 then
  write_record({ record = KEYS[1], index = KEYS[4], history = { KEYS[5], KEYS[6] } }, ARGV[1], { unpack(ARGV, 4) }, ARGV[3])
  if ARGV[2] == '1' then
    give_demand(KEYS[1], KEYS[2])
  end
end
return 1

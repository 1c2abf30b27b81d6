-- KEYS record queue tombstone user-index epoch; ARGV token, run id, uuid, awake, last_active, then fields.
-- 0: another restore has begun, or this is another run of Redis.
if redis.call('GET', KEYS[5]) ~= ARGV[1] or current_run_id() ~= ARGV[2] then
  return 0
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  write_record(KEYS[1], KEYS[4], ARGV[3], { unpack(ARGV, 6) }, ARGV[5])
  if ARGV[4] == '1' then
    give_demand(KEYS[1], KEYS[2])
  end
end
return 1

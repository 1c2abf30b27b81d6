-- KEYS record queue tombstone user-index epoch events marks; ARGV token, run id, uuid, awake, last_active, then fields.
-- 0: another restore has begun, or this is another run of Redis.
if redis.call('GET', KEYS[5]) ~= ARGV[1] or current_run_id() ~= ARGV[2] then
  return 0
end
-- The session was listed, without a mark, after the token was set. A tombstone from before that is one that an older
-- copy of Redis's data brought back; one from after it belongs to a delete that has just begun.
local buried_at = tonumber(redis.call('GET', KEYS[3]) or '')
local begun_at = tonumber(string.match(ARGV[1], ':(%d+)%-') or '')
if buried_at and begun_at and buried_at < begun_at then
  redis.call('DEL', KEYS[3])
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  write_record({ record = KEYS[1], index = KEYS[4], history = { KEYS[6], KEYS[7] } }, ARGV[3], { unpack(ARGV, 6) }, ARGV[5])
  if ARGV[4] == '1' then
    give_demand(KEYS[1], KEYS[2])
  end
end
return 1

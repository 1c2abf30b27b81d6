-- KEYS record queue tombstone dispatch:pending events marks epoch; ARGV caps, prefix and lifetime of ended, waiting:bytes, uuid, outcome,
-- reason, and the woken_at whose start was judged ('': whatever it is).
-- Answers the ids of the chats that got their outcome now. Other demand stays.
local uuid, outcome, reason, woken_at = unpack(ARGV, 8)
if woken_at ~= '' and (
  redis.call('GET', KEYS[7]) ~= current_run_id() or (redis.call('HGET', KEYS[1], 'woken_at') or '0') ~= woken_at
) then
  -- These chats wait for another start than the one that was judged.
  return {}
end
return settle(stream_of(KEYS[5], KEYS[6], KEYS[1], KEYS[3]), KEYS[2], KEYS[4], uuid, outcome, reason)

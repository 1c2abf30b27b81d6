-- KEYS record queue tombstone dispatch:pending events marks epoch; ARGV uuid, outcome, reason, max length, max bytes, and
-- the woken_at whose start was judged ('': whatever it is).
-- Answers the ids of the chats that got their outcome now. Other demand stays.
if ARGV[6] ~= '' and (
  redis.call('GET', KEYS[7]) ~= current_run_id() or (redis.call('HGET', KEYS[1], 'woken_at') or '0') ~= ARGV[6]
) then
  -- These chats wait for another start than the one that was judged.
  return {}
end
return settle({
  events = KEYS[5], marks = KEYS[6], record = KEYS[1], tombstone = KEYS[3],
  max_length = tonumber(ARGV[4]), max_bytes = tonumber(ARGV[5]),
}, KEYS[2], KEYS[4], ARGV[1], ARGV[2], ARGV[3])

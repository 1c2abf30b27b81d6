-- KEYS record queue events marks tombstone; ARGV caps, prefix and lifetime of ended, waiting:bytes, token, id, outcome, reason. Answers
-- 'ok', 'ended' or 'lost'.
local record = KEYS[1]
local token, id, outcome, reason = unpack(ARGV, 8)
local chat, refused = held_chat(record, token, id)
if not chat then
  return refused
end
end_chat(stream_of(KEYS[3], KEYS[4], record, KEYS[5]), KEYS[2], id, chat, outcome, reason)
local last_active = tonumber(redis.call('HGET', record, 'last_active') or '0')
redis.call('HSET', record, 'last_active', integer(math.max(last_active, now_ms())))
return 'ok'

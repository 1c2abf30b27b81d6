-- KEYS record lock queue dispatch:pending events marks tombstone; ARGV caps, prefix and lifetime of ended, waiting:bytes, uuid,
-- token.
-- Answers {'ok', id, element, chat, user, cancelling, now}, {'none'} or {'lost'}.
local record, queue = KEYS[1], KEYS[3]
local fence = redis.call('HMGET', record, 'fence', 'fence_run')
if fence[1] == ARGV[9] and fence[2] == 'given back' then
  -- A repetition, and nobody has taken it since.
  return { 'none' }
end
if not holds(record, ARGV[9]) then
  return { 'lost' }
end
local id, element = first_chat(queue, record)
if id then
  local cancelling = redis.call('HGET', record, 'cancelling') == id
  local user = redis.call('HGET', record, 'user_id') or ''
  return { 'ok', id, element, cjson.encode(read_chat(record, id)), user, cancelling and 1 or 0, integer(now_ms()) }
end
settle(
  stream_of(KEYS[5], KEYS[6], record, KEYS[7]), queue, KEYS[4], ARGV[8], 'failed', 'somebody took it off its list'
)
give_back(record, KEYS[2])
return { 'none' }

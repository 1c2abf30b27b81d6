-- KEYS record queue tombstone dispatch:pending events marks ended; ARGV caps, prefix and lifetime of ended, uuid, message id, element, text, most
-- waiting, and how long in ms a message may be held that finds the list empty.
-- Answers {'added' | 'known' | 'full', fresh, last_active, id of its event, outcome} or {word}. The id is known while it
-- waits or runs, and for a while after its end, so that a repeated call appends nothing.
local record, queue = KEYS[1], KEYS[2]
local uuid, id, element, text, most, hold_ms = unpack(ARGV, 7)
-- The list is full with as many bytes, too, as the most messages of this size have: whoever sends long ones must not fill
-- Redis. One message may always wait.
local USUAL_BYTES = 40960
local word = refusal(record, KEYS[3])
if word then
  return { word }
end
local ended = redis.call('GET', KEYS[7])
if ended then
  local outcome, event = string.match(ended, '^(%a+) (.*)$')
  return { 'known', 0, redis.call('HGET', record, 'last_active') or '0', event, outcome }
end
local chat, found = read_chat(record, id), tally(queue, record)
local bytes = #element + tonumber(redis.call('HGET', record, 'chat_bytes') or '0')
if not chat and (found.waiting >= tonumber(most) or found.waiting > 0 and bytes > USUAL_BYTES * most) then
  return { 'full', 0, redis.call('HGET', record, 'last_active') or '0', '', '' }
end
local fresh, last_active = demand(record, queue, 0, found)
if chat then
  return { 'known', fresh, last_active, chat.event, '' }
end
local filled = tonumber(redis.call('HGET', record, 'filled_at') or '0')
local event = append(
  stream_of(KEYS[5], KEYS[6], record, KEYS[3]), { 'kind', 'message-queued', 'message_id', id, 'text', text }
)
write_chat(record, id, {
  event = event, at = now_ms(), size = #element, filled = filled, hold = filled + tonumber(hold_ms),
})
redis.call('RPUSH', queue, element)
redis.call('HINCRBY', record, 'chats', 1)
redis.call('HINCRBY', record, 'chat_bytes', #element)
redis.call('SADD', KEYS[4], uuid)
return { 'added', fresh, last_active, event, '' }

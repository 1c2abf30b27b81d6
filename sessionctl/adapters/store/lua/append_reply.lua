-- KEYS record events marks tombstone; ARGV caps, token, id, attempt, first line, last line, text, bytes
-- of the attempt so far, whether or not they are kept. Answers 'ok', 'ended' or
-- 'lost'.
local stream = stream_of(KEYS[2], KEYS[3], KEYS[1], KEYS[4])
local token, id, attempt, first, last, text, bytes = unpack(ARGV, 5)
local chat, refused = held_chat(KEYS[1], token, id)
if not chat then
  return refused
end
local known, seq = chat.attempt or 0, chat.seq or 0
local new = tonumber(attempt)
if new < known or (new == known and tonumber(last) <= seq) then
  return 'ok'
end
if not chat.pod or tonumber(first) ~= (new > known and 1 or seq + 1) then
  return 'lost'
end
append(stream, {
  'kind', 'message-delta', 'message_id', id, 'attempt', attempt, 'first', first, 'seq', last, 'text', text,
})
chat.attempt, chat.seq, chat.bytes = new, tonumber(last), tonumber(bytes)
write_chat(KEYS[1], id, chat)
return 'ok'

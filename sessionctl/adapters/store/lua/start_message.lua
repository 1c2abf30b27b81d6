-- KEYS record events marks tombstone; ARGV caps, token, id, pod. Answers 'ok', 'ended' or 'lost'.
local stream = stream_of(KEYS[2], KEYS[3], KEYS[1], KEYS[4])
local id, pod = ARGV[6], ARGV[7]
local chat, refused = held_chat(KEYS[1], ARGV[5], id)
if not chat then
  return refused
end
-- The first pod stays: what began there must not begin in another that does not know of it.
if not chat.pod then
  append(stream, { 'kind', 'message-started', 'message_id', id })
  chat.pod = pod
  write_chat(KEYS[1], id, chat)
end
return 'ok'

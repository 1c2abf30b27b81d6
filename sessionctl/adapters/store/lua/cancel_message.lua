-- KEYS record queue events marks tombstone; ARGV caps, prefix and lifetime of ended, waiting:bytes, id. Answers a word.
local stream = stream_of(KEYS[3], KEYS[4], KEYS[1], KEYS[5])
local id = ARGV[8]
local chat = read_chat(KEYS[1], id)
if not chat then
  local ended = redis.call('GET', ARGV[5] .. id)
  -- A repetition is answered as the first call was.
  return not ended and 'unknown' or string.match(ended, '^%a+') == 'cancelled' and 'cancelled' or 'ended'
end
if not chat.pod then
  end_chat(stream, KEYS[2], id, chat, 'cancelled', '')
  return 'cancelled'
end
if redis.call('HGET', KEYS[1], 'cancelling') ~= id then
  append(stream, { 'kind', 'message-cancelling', 'message_id', id })
  redis.call('HSET', KEYS[1], 'cancelling', id)
end
return 'cancelling'

-- KEYS record queue tombstone dispatch:pending events marks; ARGV uuid, message id, element, most waiting, max length,
-- max bytes.
-- Answers {'added' | 'known' | 'full', fresh, last_active} or {word}. The id is remembered in the record, so that a
-- repeated call after a lost reply, or after the message was finished, appends nothing.
local field = 'message:' .. ARGV[2]
if redis.call('HEXISTS', KEYS[1], field) == 0 then
  local waiting = #classify(KEYS[2], KEYS[1]).chats
  if redis.call('EXISTS', KEYS[1]) == 1 and waiting >= tonumber(ARGV[4]) then
    return { 'full', 0, redis.call('HGET', KEYS[1], 'last_active') or '0' }
  end
end
local ok, answer = demand(KEYS[1], KEYS[2], KEYS[3], 0)
if not ok then
  return { answer }
end
if redis.call('HSETNX', KEYS[1], field, 'queued') == 0 then
  return { 'known', answer[1], answer[2] }
end
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('SADD', KEYS[4], ARGV[1])
append({
  events = KEYS[5], marks = KEYS[6], record = KEYS[1], tombstone = KEYS[3],
  max_length = tonumber(ARGV[5]), max_bytes = tonumber(ARGV[6]),
}, { 'kind', 'message-queued', 'message_id', ARGV[2] })
return { 'added', answer[1], answer[2] }

-- KEYS record queue tombstone dispatch:pending events marks ended; ARGV caps, prefix and lifetime of ended, waiting:bytes,
-- uuid, message id, element, text, most waiting, how long in ms a message may be held that finds the list empty, and how
-- many bytes may wait for all sessions of a tenant (0: any number).
-- Answers {'added' | 'known' | 'full' | 'tenant-full', fresh, last_active, id of its event, outcome} or {word}. The id is known while it
-- waits or runs, and for a while after its end, so that a repeated call appends nothing.
local record, queue = KEYS[1], KEYS[2]
local uuid, id, element, text, most, hold_ms, most_of_tenant = unpack(ARGV, 8)
-- The list is full with as many bytes, too, as the most messages of this size have: whoever sends long ones must not fill
-- Redis. One message may always wait.
local USUAL_BYTES = 40960
local RECOUNT_MS = 10000

-- What waits for each tenant, from the records. Somebody may have taken one away behind our back, and what it had must not
-- count for ever; this takes a millisecond for some hundred sessions, so it is done now and then, where it matters.
local function recount_waiting()
  local now, prefix, sums = now_ms(), string.sub(record, 1, -1 - #uuid), {}
  local counted_at = tonumber(redis.call('HGET', ARGV[7], ':counted') or '0')
  if math.abs(now - counted_at) < RECOUNT_MS then
    return
  end
  for _, other in ipairs(redis.call('SMEMBERS', KEYS[4])) do
    local found = redis.pcall('HMGET', prefix .. other, 'tenant', 'chat_bytes')
    local tenant, bytes = found[1] or '', tonumber(found[2] or '')
    if bytes then
      sums[tenant] = (sums[tenant] or 0) + bytes
    end
  end
  redis.call('DEL', ARGV[7])
  redis.call('HSET', ARGV[7], ':counted', integer(now))
  for tenant, bytes in pairs(sums) do
    redis.call('HSET', ARGV[7], tenant, integer(bytes))
  end
end

local function has_room_for_tenant()
  local kind = redis.call('TYPE', ARGV[7])['ok']
  local tenant = redis.call('HGET', record, 'tenant') or ''
  local waiting = kind == 'hash' and redis.call('HGET', ARGV[7], tenant) or '0'
  return tonumber(waiting) + #element <= tonumber(most_of_tenant)
end

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
if not chat and most_of_tenant ~= '0' and not has_room_for_tenant() then
  recount_waiting()
  if not has_room_for_tenant() then
    return { 'tenant-full', 0, redis.call('HGET', record, 'last_active') or '0', '', '' }
  end
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
count_waiting(record, #element)
redis.call('SADD', KEYS[4], uuid)
return { 'added', fresh, last_active, event, '' }

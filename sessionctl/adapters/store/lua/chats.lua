-- Shared by the scripts that change chats; after the caps, the arguments of those that may end one are the prefix of
-- ended:<uuid>:<id>, its lifetime in ms, and the name of waiting:bytes.
-- A chat that waits or runs is an element of the list, and the field message:<id> of the record: its `event` (the id of
-- message-queued), when it was queued `at`, the `size` of the element, when the list was `filled` and until when that is a reason to `hold` it, and,
-- once it was sent, the `pod`, the `attempt` and `seq` of the last line of the reply, and how many `bytes` the attempt has. No more than one was sent: the
-- first of the list. After its end there is only ended:<uuid>:<id>, so that records do not grow.
local function decode_chat(text)
  if not text then
    return nil
  end
  local ok, chat = pcall(cjson.decode, text)
  return ok and type(chat) == 'table' and type(chat.event) == 'string' and chat or { event = '', at = 0 }
end

local function read_chat(record, id)
  return decode_chat(redis.call('HGET', record, 'message:' .. id))
end

local function write_chat(record, id, chat)
  redis.call('HSET', record, 'message:' .. id, cjson.encode(chat))
end

-- The first chat of the list, its id and its element; only what is before it is read.
local function first_chat(queue, record)
  local index = 0
  while redis.call('TYPE', queue)['ok'] == 'list' do
    local element = redis.call('LINDEX', queue, index)
    if not element then
      return nil
    end
    local id = element ~= 'awake' and chat_id(element, record)
    if id then
      local ok, chat = pcall(cjson.decode, element)
      if ok and type(chat['message']) == 'string' then
        return id, element
      end
      -- Not what our enqueue wrote.
      redis.call('LREM', queue, 1, element)
    else
      index = index + 1
    end
  end
  return nil
end

local function remove_element(queue, id)
  for index = 0, redis.call('TYPE', queue)['ok'] == 'list' and redis.call('LLEN', queue) - 1 or -1 do
    local element = redis.call('LINDEX', queue, index)
    if element ~= 'awake' and id_of(element) == id then
      redis.call('LREM', queue, 1, element)
      return
    end
  end
end

-- Counts bytes of what waits for its tenant: in one step with whatever it is about, so that no death of a manager makes a
-- difference.
local function count_for_tenant(record, difference)
  local tenant = redis.call('HGET', record, 'tenant') or ''
  local left = redis.pcall('HINCRBY', ARGV[7], tenant, difference)
  if type(left) == 'table' then
    -- Somebody put something else in its place.
    redis.call('DEL', ARGV[7])
  elseif left <= 0 then
    redis.call('HDEL', ARGV[7], tenant)
  end
end

local function count_waiting(record, difference)
  redis.call('HINCRBY', record, 'chat_bytes', difference)
  count_for_tenant(record, difference)
end

-- Gives a chat its one outcome.
local function end_chat(stream, queue, id, chat, outcome, reason)
  -- This first: it needs no memory, and once a script has written, Redis lets it do what does.
  redis.call('HDEL', stream.record, 'message:' .. id)
  remove_element(queue, id)
  if redis.call('EXISTS', queue) == 0 then
    -- Only a release may end the demand.
    redis.call('RPUSH', queue, 'awake')
  end
  redis.call('HINCRBY', stream.record, 'chats', -1)
  count_waiting(stream.record, 0 - (chat.size or 0))
  if redis.call('HGET', stream.record, 'cancelling') == id then
    redis.call('HDEL', stream.record, 'cancelling')
  end
  local fields = { 'kind', 'message-ended', 'message_id', id, 'outcome', outcome }
  if reason ~= '' then
    table.insert(fields, 'detail')
    table.insert(fields, reason)
  end
  if chat.seq then
    -- The last piece: whoever has not seen it, because it is kept no longer, has to know.
    for _, field in ipairs({ 'attempt', integer(chat.attempt or 1), 'seq', integer(chat.seq) }) do
      table.insert(fields, field)
    end
  end
  append(stream, fields)
  redis.call('SET', ARGV[5] .. id, outcome .. ' ' .. chat.event, 'PX', ARGV[6])
end

-- Ends every chat of the session. `failed` means that it was never begun. Returns the ids.
local function settle(stream, queue, pending, uuid, outcome, reason)
  local ids = classify(queue, stream.record).ids
  for _, field in ipairs(redis.call('HKEYS', stream.record)) do
    -- Also one that somebody took off the list.
    table.insert(ids, string.match(field, '^message:(.*)$'))
  end
  local settled = {}
  for _, id in ipairs(ids) do
    local chat = read_chat(stream.record, id)
    if chat then
      end_chat(stream, queue, id, chat, outcome == 'failed' and chat.pod and 'interrupted' or outcome, reason)
      table.insert(settled, id)
    end
  end
  local left = tonumber(redis.call('HGET', stream.record, 'chat_bytes') or '0')
  -- This needs no memory: see above.
  redis.call('HDEL', stream.record, 'chats', 'chat_bytes')
  redis.call('SREM', pending, uuid)
  if left ~= 0 then
    count_for_tenant(stream.record, 0 - left)
  end
  return settled
end

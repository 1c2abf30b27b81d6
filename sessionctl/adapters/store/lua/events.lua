-- The part of every script that appends to events:<uuid>. `stream`: the keys events, marks, record and tombstone, and
-- the caps max_length and max_bytes.
-- An entry costs Redis more than its text.
local ENTRY_BYTES = 64
-- History of a session that Redis does not know (never made, or its record is not rebuilt yet) must not stay for ever.
local UNKNOWN_MS = 600000
local REMEMBERED = 8

local function size_of(fields)
  local size = ENTRY_BYTES
  for _, text in ipairs(fields) do
    size = size + #text
  end
  return size
end

local function oldest(stream, count)
  return redis.call('XRANGE', stream.events, '-', '+', 'COUNT', count)
end

-- The count is kept beside the stream; who else writes to the stream, or trims it, makes it be counted anew.
local function count_bytes(stream, length)
  local counted = redis.call('HMGET', stream.marks, 'length', 'bytes')
  if counted[1] == integer(length) and counted[2] then
    return tonumber(counted[2])
  end
  local bytes = 0
  for _, entry in ipairs(length > 0 and oldest(stream, length) or {}) do
    bytes = bytes + size_of(entry[2])
  end
  return bytes
end

-- A stream lives as long as its session's record, then as long as its tombstone.
local function set_lifetime(stream)
  local buried = redis.call('PTTL', stream.tombstone)
  for _, key in ipairs({ stream.events, stream.marks }) do
    if buried > 0 then
      redis.call('PEXPIRE', key, buried)
    elseif redis.call('EXISTS', stream.record) == 1 then
      redis.call('PERSIST', key)
    else
      redis.call('PEXPIRE', key, UNKNOWN_MS)
    end
  end
end

-- fields: names and values in turn. Returns the id. Never fails: what else is done in the same step is worth more.
local function append(stream, fields)
  local kind = redis.call('TYPE', stream.events)['ok']
  if kind ~= 'stream' and kind ~= 'none' then
    redis.call('DEL', stream.events)
  end
  redis.call('XTRIM', stream.events, 'MAXLEN', '=', integer(stream.max_length))
  local length = redis.call('XLEN', stream.events)
  local bytes = count_bytes(stream, length) + size_of(fields)
  local id = redis.call('XADD', stream.events, '*', unpack(fields))
  length = length + 1
  while length > 1 and (length > stream.max_length or bytes > stream.max_bytes) do
    bytes = bytes - size_of(oldest(stream, 1)[1][2])
    length = length - 1
    redis.call('XTRIM', stream.events, 'MAXLEN', '=', integer(length))
  end
  redis.call('HSET', stream.marks, 'length', integer(length), 'bytes', integer(bytes))
  set_lifetime(stream)
  return id
end

-- The newest few words of a list, kept in one field: {word, what it is for}.
local function recall(stream, field, word)
  for _, pair in ipairs(cjson.decode(redis.call('HGET', stream.marks, field) or '[]')) do
    if pair[1] == word then
      return pair[2]
    end
  end
  return nil
end

local function keep(stream, field, word, value)
  local pairs_kept = cjson.decode(redis.call('HGET', stream.marks, field) or '[]')
  table.insert(pairs_kept, { word, value })
  if #pairs_kept > REMEMBERED then
    table.remove(pairs_kept, 1)
  end
  redis.call('HSET', stream.marks, field, cjson.encode(pairs_kept))
end

-- Gives waiting chats their outcome, each one that has none yet. Returns their ids.
local function settle(stream, queue, pending, uuid, outcome, reason)
  local settled = {}
  for _, chat in ipairs(classify(queue, stream.record).chats) do
    local id = cjson.decode(chat)['id']
    local field = 'message:' .. id
    if redis.call('HGET', stream.record, field) == 'queued' then
      redis.call('HSET', stream.record, field, outcome)
      append(stream, { 'kind', 'message-ended', 'message_id', id, 'outcome', outcome, 'detail', reason })
      table.insert(settled, id)
    end
    redis.call('LREM', queue, 1, chat)
  end
  redis.call('SREM', pending, uuid)
  return settled
end

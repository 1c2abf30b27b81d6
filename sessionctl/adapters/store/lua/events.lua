-- The part of every script that appends to events:<uuid>; its first four arguments are the caps.
-- Two caps. History: so many events and bytes. What is younger than `recent_ms` is not history yet: whoever follows the
-- session and was cut off for a moment must find all of it, so it is kept beyond those, up to `recent_bytes`, which
-- nothing exceeds.
-- An entry costs Redis more than its text.
local ENTRY_BYTES = 64
-- Where Redis is nearly full, history gives way first: a message that cannot be stored is worse than one forgotten.
local FULL, SHARE = 0.75, 8
-- The most entries that one append looks at from either end.
local MOST_OLD, MOST_NEW = 512, 4096
-- History of a session that Redis does not know (never made, or its record is not rebuilt yet) must not stay for ever.
local UNKNOWN_MS = 600000
local REMEMBERED = 8

local function stream_of(events, marks, record, tombstone)
  return {
    events = events, marks = marks, record = record, tombstone = tombstone,
    max_length = tonumber(ARGV[1]), max_bytes = tonumber(ARGV[2]),
    recent_ms = tonumber(ARGV[3]), recent_bytes = tonumber(ARGV[4]),
  }
end

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

-- The length and the size. The size is kept beside the stream; who else writes to the stream, or trims it, makes it be
-- counted anew.
local function count_bytes(stream, length)
  local counted = redis.call('HMGET', stream.marks, 'length', 'bytes')
  if counted[1] == integer(length) and counted[2] then
    return length, tonumber(counted[2])
  end
  if length > MOST_NEW then
    redis.call('XTRIM', stream.events, 'MAXLEN', '=', MOST_NEW)
    length = MOST_NEW
  end
  local bytes = 0
  for _, entry in ipairs(length > 0 and oldest(stream, length) or {}) do
    bytes = bytes + size_of(entry[2])
  end
  return length, bytes
end

local function is_nearly_full()
  local memory = redis.call('INFO', 'memory')
  local used = tonumber(string.match(memory, 'used_memory:(%d+)') or '0')
  local most = tonumber(string.match(memory, 'maxmemory:(%d+)') or '0')
  return most > 0 and used > FULL * most
end

-- What may go of a stream of this length and size, and what may not.
local function limits_of(stream, length, bytes)
  local limits = {
    length = stream.max_length, bytes = stream.max_bytes, recent_bytes = stream.recent_bytes,
    since = now_ms() - stream.recent_ms,
  }
  -- Asking takes Redis as long as all the rest of an append.
  if (bytes > limits.bytes or length % 16 == 0) and is_nearly_full() then
    limits.bytes = limits.bytes / SHARE
    limits.recent_bytes = limits.bytes
  end
  function limits.exceeded(by_length, by_bytes)
    return by_length > limits.length or by_bytes > limits.bytes
  end
  function limits.needed(entry, by_bytes)
    return tonumber(string.match(entry[1], '^%d+')) > limits.since and by_bytes <= limits.recent_bytes
  end
  return limits
end

-- Takes what is too much off the old end, a little more at each step. Returns the new length and size, and whether it
-- stopped because it had looked at enough.
local function trim_oldest(stream, limits, length, bytes)
  local looked, step = 0, 2
  while length > 1 and limits.exceeded(length, bytes) and looked < MOST_OLD do
    local entries, taken = oldest(stream, step), 0
    for _, entry in ipairs(entries) do
      if length - taken <= 1 or not limits.exceeded(length - taken, bytes) or limits.needed(entry, bytes) then
        break
      end
      bytes = bytes - size_of(entry[2])
      taken = taken + 1
    end
    length = length - taken
    redis.call('XTRIM', stream.events, 'MAXLEN', '=', integer(length))
    if taken < #entries then
      return length, bytes, false
    end
    looked, step = looked + taken, step * 4
  end
  return length, bytes, looked >= MOST_OLD and limits.exceeded(length, bytes)
end

-- Much is to go, as when a long reply becomes history: what stays is less, and is found from the new end.
local function keep_newest(stream, limits, length, bytes)
  local kept, kept_bytes, before = 0, 0, '+'
  while kept < MOST_NEW do
    local entries = redis.call('XREVRANGE', stream.events, before, '-', 'COUNT', 256)
    for _, entry in ipairs(entries) do
      local size = kept_bytes + size_of(entry[2])
      if kept > 0 and limits.exceeded(kept + 1, size) and not limits.needed(entry, size) then
        redis.call('XTRIM', stream.events, 'MAXLEN', '=', integer(kept))
        return kept, kept_bytes
      end
      kept, kept_bytes, before = kept + 1, size, '(' .. entry[1]
    end
    if #entries == 0 then
      break
    end
  end
  return length, bytes
end

-- A stream lives as long as its session's record (who writes that takes an end of the stream away, who deletes it sets
-- one), then as long as its tombstone.
local function set_lifetime(stream)
  if redis.call('EXISTS', stream.record) == 1 then
    return
  end
  local buried = redis.call('PTTL', stream.tombstone)
  for _, key in ipairs({ stream.events, stream.marks }) do
    redis.call('PEXPIRE', key, buried > 0 and buried or UNKNOWN_MS)
  end
end

-- fields: names and values in turn. Returns the id. Never fails: what else is done in the same step is worth more.
local function append(stream, fields)
  local length = redis.pcall('XLEN', stream.events)
  if type(length) == 'table' then
    -- Somebody put something else in its place.
    redis.call('DEL', stream.events)
    length = 0
  end
  -- A script that has written, and this needs no memory, may go on where none is left.
  redis.call('XTRIM', stream.events, 'MAXLEN', '=', integer(length))
  local bytes
  length, bytes = count_bytes(stream, length)
  local id = redis.call('XADD', stream.events, '*', unpack(fields))
  length, bytes = length + 1, bytes + size_of(fields)
  if length > stream.max_length or bytes > stream.max_bytes / SHARE then
    local limits, more = limits_of(stream, length, bytes), false
    length, bytes, more = trim_oldest(stream, limits, length, bytes)
    if more then
      length, bytes = keep_newest(stream, limits, length, bytes)
    end
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

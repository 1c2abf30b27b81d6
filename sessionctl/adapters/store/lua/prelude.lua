-- Shared by every script. The clock is Redis's own; numbers leave as integers, never in exponent form.
local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

local function integer(number)
  return string.format('%.0f', number)
end

-- run_id of the server that executes this script: a restart changes it, a flush does not.
local function current_run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end

local function id_of(element)
  -- What our enqueue writes need not be parsed, however long its text is.
  local id = string.match(element, '^{"id": "([%w_-]+)", "message": "')
  if id then
    return id
  end
  local ok, message = pcall(cjson.decode, element)
  id = ok and type(message) == 'table' and message['id']
  return type(id) == 'string' and id or nil
end

-- The id of a chat that our enqueue recorded and that has no outcome yet; nil for any other element.
local function chat_id(element, record)
  local id = id_of(element)
  return id and redis.call('HEXISTS', record, 'message:' .. id) == 1 and id or nil
end

-- Sorts the list into our own entry, chats that wait or run, and demand from outside.
local function classify(queue, record)
  local found = { awake = 0, chats = {}, ids = {}, outside = 0 }
  local kind = redis.call('TYPE', queue)['ok']
  if kind ~= 'list' and kind ~= 'none' then
    -- Somebody used SET or SADD: demand all the same, and no error, which would stop the sweep of every session.
    found.outside, found.foreign = 1, true
    return found
  end
  for _, element in ipairs(redis.call('LRANGE', queue, 0, -1)) do
    if element == 'awake' then
      found.awake = found.awake + 1
    else
      local id = chat_id(element, record)
      if id then
        table.insert(found.chats, element)
        table.insert(found.ids, id)
      else
        found.outside = found.outside + 1
      end
    end
  end
  return found
end

-- How much of each there is, without reading the texts of waiting chats (25 MB take Redis 150 ms) where all that is in
-- the list is ours: as many chats as the record counts, and `awake`.
local function tally(queue, record)
  local kind = redis.call('TYPE', queue)['ok']
  local chats = tonumber(redis.call('HGET', record, 'chats') or '0')
  if kind == 'none' and chats == 0 then
    return { awake = 0, waiting = 0, outside = 0 }
  end
  if kind == 'list' then
    local awake = #redis.call('LPOS', queue, 'awake', 'COUNT', 2)
    if awake <= 1 and redis.call('LLEN', queue) == chats + awake then
      return { awake = awake, waiting = chats, outside = 0 }
    end
  end
  local found = classify(queue, record)
  found.waiting = #found.chats
  return found
end

-- Chats keep their order; all other demand becomes one entry, or none.
local function rewrite(queue, chats, awake)
  redis.call('DEL', queue)
  for _, chat in ipairs(chats) do
    redis.call('RPUSH', queue, chat)
  end
  if awake then
    redis.call('RPUSH', queue, 'awake')
  end
end

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

-- Sorts the list into our own entry, chats our enqueue recorded, and demand from outside.
local function classify(queue, record)
  local found = { awake = 0, chats = {}, outside = 0 }
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
      local ok, message = pcall(cjson.decode, element)
      local id = ok and type(message) == 'table' and message['id']
      if type(id) == 'string' and redis.call('HEXISTS', record, 'message:' .. id) == 1 then
        table.insert(found.chats, element)
      else
        found.outside = found.outside + 1
      end
    end
  end
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

-- Shared by the scripts that write records from what the cluster shows.
-- keys: record, index, and those of its history. fields: alternating names and values of the record, without
-- last_active.
local function write_record(keys, uuid, fields, last_active)
  for position = 1, #fields, 2 do
    redis.call('HSETNX', keys.record, fields[position], fields[position + 1])
  end
  redis.call('HSETNX', keys.record, 'last_active', last_active)
  redis.call('SADD', keys.index, uuid)
  for _, key in ipairs(keys.history) do
    redis.call('PERSIST', key)
  end
end

-- A running session whose demand is not known counts as in use from now on.
local function give_demand(record, queue)
  local found = classify(queue, record)
  if found.foreign then
    rewrite(queue, found.chats, true)
  elseif found.awake == 0 then
    redis.call('RPUSH', queue, 'awake')
  end
  -- What this Redis forgot may include a release whose patch is still on its way: the next wakes count as fresh. Or a
  -- wake whose patch is: nobody gives up its start before it had its time.
  local now = integer(now_ms())
  if found.awake == 0 and #found.chats == 0 then
    redis.call('HSET', record, 'filled_at', now)
  end
  redis.call('HSET', record, 'last_active', now, 'released_at', now, 'woken_at', now)
end

-- The part that wake, touch and enqueue share.
-- A wake within this time of a release patches the Deployment although another wake already did (or died before it
-- could): the sleeper's own patch may still be on its way. It also makes a wake repeated after a lost reply safe.
local FRESH_MS = 30000

-- Returns the word for a session that takes no demand, or nil.
local function refusal(record, tombstone)
  if redis.call('EXISTS', tombstone) == 1 then
    return 'deleted'
  end
  if redis.call('EXISTS', record) == 0 then
    return 'unknown'
  end
  return nil
end

-- found: the tally of the list. Returns fresh and last_active.
local function demand(record, queue, age_ms, found)
  local now = now_ms()
  local last_active = tonumber(redis.call('HGET', record, 'last_active') or '0')
  local released_at = tonumber(redis.call('HGET', record, 'released_at') or '0')
  local fresh = found.awake == 0 or now - released_at < FRESH_MS
  if found.outside > 0 or found.awake > 1 then
    rewrite(queue, found.chats, true)
  elseif found.awake == 0 then
    redis.call('RPUSH', queue, 'awake')
  end
  if found.chats then
    -- It was counted anew.
    redis.call('HSET', record, 'chats', #found.chats)
  end
  if found.awake == 0 then
    redis.call('HSET', record, 'status', 'waking')
  end
  if found.awake == 0 and found.waiting == 0 then
    -- Nobody knows since when there has been demand from outside.
    redis.call('HSET', record, 'filled_at', integer(now))
  end
  last_active = math.max(last_active + 1, now - age_ms)
  redis.call('HSET', record, 'last_active', integer(last_active))
  if fresh then
    redis.call('HSET', record, 'woken_at', integer(last_active))
  end
  return fresh and 1 or 0, integer(last_active)
end

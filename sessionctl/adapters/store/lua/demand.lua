-- The part that wake, touch and enqueue share.
-- A wake within this time of a release patches the Deployment although another wake already did (or died before it
-- could): the sleeper's own patch may still be on its way. It also makes a wake repeated after a lost reply safe.
local FRESH_MS = 30000

-- Returns false and a word, or {fresh, last_active}.
local function demand(record, queue, tombstone, age_ms)
  if redis.call('EXISTS', tombstone) == 1 then
    return false, 'deleted'
  end
  if redis.call('EXISTS', record) == 0 then
    return false, 'unknown'
  end
  local now = now_ms()
  local found = classify(queue, record)
  local last_active = tonumber(redis.call('HGET', record, 'last_active') or '0')
  local released_at = tonumber(redis.call('HGET', record, 'released_at') or '0')
  local fresh = found.awake == 0 or now - released_at < FRESH_MS
  if found.awake ~= 1 or found.outside > 0 then
    rewrite(queue, found.chats, true)
  end
  if found.awake == 0 then
    redis.call('HSET', record, 'status', 'waking')
  end
  last_active = math.max(last_active + 1, now - age_ms)
  redis.call('HSET', record, 'last_active', integer(last_active))
  if fresh then
    redis.call('HSET', record, 'woken_at', integer(last_active))
  end
  return true, { fresh and 1 or 0, integer(last_active), #found.chats }
end

-- Shared by the scripts of whoever delivers a session's chats. The record has the token of who took the lock last, and
-- in which run of Redis: one that started again may have forgotten what was written, so everybody reads anew how far
-- things are.
-- Whether the token is good, and the field of the message that it is used for.
local function holds(record, token, id)
  local fence = redis.call('HMGET', record, 'fence', 'fence_run', 'message:' .. (id or ''))
  return fence[1] == token and fence[2] == current_run_id(), fence[3]
end

-- The right is given back: nothing more is written with it, by nobody.
local function give_back(record, lock)
  redis.call('DEL', lock)
  redis.call('HSET', record, 'fence_run', 'given back')
end

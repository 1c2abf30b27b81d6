-- KEYS the limits; ARGV for each its rate a second and its burst. GCRA, in microseconds: each key holds the time at which
-- its bucket will be full again. Answers 0, or how long to wait; a token of each is taken, or of none. A call repeated
-- after a lost reply takes one more: that errs on the safe side.
local now = now_us()
local wait, full_at = 0, {}
for position, key in ipairs(KEYS) do
  local interval = 1000000 / tonumber(ARGV[2 * position - 1])
  local depth = interval * tonumber(ARGV[2 * position])
  -- A clock that was set back must not lock anybody out for longer than an empty bucket does.
  local at = math.min(math.max(tonumber(redis.call('GET', key) or '0'), now), now + depth)
  full_at[position] = at + interval
  wait = math.max(wait, full_at[position] - depth - now)
end
if wait > 0 then
  return integer(math.ceil(wait))
end
for position, key in ipairs(KEYS) do
  redis.call('SET', key, integer(full_at[position]), 'PX', integer(math.ceil((full_at[position] - now) / 1000)))
end
return '0'

-- KEYS idempotency key; ARGV entry, lifetime in ms. Answers the entry that the key is bound to. The entry carries the
-- caller's operation id: whoever finds its own knows that it bound the key, even when the first reply was lost.
local bound = redis.call('GET', KEYS[1])
if bound then
  return bound
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]

-- KEYS record lock; ARGV token, lifetime in ms. Answers {'ok', id of the message to cancel...} or {'lost'}.
if not holds(KEYS[1], ARGV[1]) then
  return { 'lost' }
end
if redis.call('GET', KEYS[2]) == ARGV[1] then
  -- This needs no memory.
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
else
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
return { 'ok', redis.call('HGET', KEYS[1], 'cancelling') or nil }

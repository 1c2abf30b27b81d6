-- KEYS record lock; ARGV token, lifetime in ms. Answers {'ok', id of the message to cancel...} or {'lost'}.
if not holds(KEYS[1], ARGV[1]) then
  return { 'lost' }
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return { 'ok', redis.call('HGET', KEYS[1], 'cancelling') or nil }

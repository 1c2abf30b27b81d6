-- KEYS code; ARGV operation id. Answers the uuid once; a call repeated after a lost reply gets it again. What is left
-- behind expires with the code.
local found = redis.call('GET', KEYS[1])
if not found then
  return false
end
local operation, uuid = string.match(found, '^used:(%w+):(.*)$')
if operation then
  return operation == ARGV[1] and uuid
end
redis.call('SET', KEYS[1], 'used:' .. ARGV[1] .. ':' .. found, 'KEEPTTL')
return found

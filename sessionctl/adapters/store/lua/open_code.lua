-- KEYS code; ARGV session, state of the browser that shows it, whether its user has confirmed, operation id. Answers
-- {word, login}: opened once, and again to a call that is repeated after a lost reply. What is left behind expires with
-- the code.
local code = redis.call('TYPE', KEYS[1])['ok'] == 'hash'
  and redis.call('HMGET', KEYS[1], 'session', 'login', 'state', 'asks', 'used')
if not code or code[1] ~= ARGV[1] then
  -- On another session's host it is not even used up.
  return { 'unknown' }
end
local login, state, asks, used = code[2], code[3], code[4] == '1', code[5]
if used then
  return used == ARGV[4] and { 'opened', login } or { 'used' }
end
if asks and state == '' and ARGV[3] == '0' then
  redis.call('HSET', KEYS[1], 'state', ARGV[2])
  state = ARGV[2]
end
if state == '' or state ~= ARGV[2] then
  return { 'other' }
end
if asks and ARGV[3] == '0' then
  return { 'confirm', login }
end
redis.call('HSET', KEYS[1], 'used', ARGV[4])
return { 'opened', login }

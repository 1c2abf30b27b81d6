-- KEYS epoch; ARGV run id, random. Sets the token (with its time) of this run's restore or joins the one that stands there.
if current_run_id() ~= ARGV[1] then
  return false
end
local epoch = redis.call('GET', KEYS[1]) or ''
if epoch == ARGV[1] then
  return false
end
local prefix = 'restoring:' .. ARGV[1] .. ':'
if string.sub(epoch, 1, #prefix) == prefix then
  return epoch
end
local token = prefix .. integer(now_ms()) .. '-' .. ARGV[2]
redis.call('SET', KEYS[1], token)
return token

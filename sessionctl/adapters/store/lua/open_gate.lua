-- KEYS epoch; ARGV token, run id.
if redis.call('GET', KEYS[1]) ~= ARGV[1] or current_run_id() ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1

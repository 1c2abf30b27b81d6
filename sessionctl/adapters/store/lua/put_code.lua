-- KEYS code; ARGV session, login, state of the browser it is for (empty: not known yet), lifetime in ms. Never over one
-- that is there: it may be used already.
if redis.call('EXISTS', KEYS[1]) == 0 then
  local asks = ARGV[3] == '' and '1' or '0'
  redis.call('HSET', KEYS[1], 'session', ARGV[1], 'login', ARGV[2], 'state', ARGV[3], 'asks', asks)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1

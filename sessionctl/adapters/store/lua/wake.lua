-- KEYS record queue tombstone; ARGV age of the activity in ms. Answers {'ok', fresh, last_active} or {word}.
local word = refusal(KEYS[1], KEYS[3])
if word then
  return { word }
end
-- This needs no memory, and once a script has written, Redis lets it do what does: nobody sleeps because Redis is full.
redis.call('PERSIST', KEYS[1])
return { 'ok', demand(KEYS[1], KEYS[2], tonumber(ARGV[1]), tally(KEYS[2], KEYS[1])) }

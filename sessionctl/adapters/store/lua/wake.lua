-- KEYS record queue tombstone; ARGV age of the activity in ms. Answers {'ok', fresh, last_active} or {word}.
local ok, answer = demand(KEYS[1], KEYS[2], KEYS[3], tonumber(ARGV[1]))
if not ok then
  return { answer }
end
return { 'ok', answer[1], answer[2] }

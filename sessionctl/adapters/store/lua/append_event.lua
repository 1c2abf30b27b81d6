-- KEYS events marks record tombstone; ARGV caps, operation id, kind, once, then fields.
-- Answers the id, or false where an event of this kind with this mark is there already. A call repeated after a lost
-- reply answers what the first one did.
local stream = stream_of(KEYS[1], KEYS[2], KEYS[3], KEYS[4])
local operation, kind, once = ARGV[5], ARGV[6], ARGV[7]
local known = recall(stream, 'operations', operation)
if known then
  return known
end
if once ~= '' and recall(stream, 'once:' .. kind, once) then
  return false
end
local id = append(stream, { unpack(ARGV, 8) })
keep(stream, 'operations', operation, id)
if once ~= '' then
  keep(stream, 'once:' .. kind, once, id)
end
return id

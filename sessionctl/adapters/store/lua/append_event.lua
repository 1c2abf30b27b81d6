-- KEYS events marks record tombstone; ARGV max length, max bytes, operation id, kind, once, then fields.
-- Answers the id, or false where an event of this kind with this mark is there already. A call repeated after a lost
-- reply answers what the first one did.
local stream = {
  events = KEYS[1], marks = KEYS[2], record = KEYS[3], tombstone = KEYS[4],
  max_length = tonumber(ARGV[1]), max_bytes = tonumber(ARGV[2]),
}
local known = recall(stream, 'operations', ARGV[3])
if known then
  return known
end
if ARGV[5] ~= '' and recall(stream, 'once:' .. ARGV[4], ARGV[5]) then
  return false
end
local id = append(stream, { unpack(ARGV, 6) })
keep(stream, 'operations', ARGV[3], id)
if ARGV[5] ~= '' then
  keep(stream, 'once:' .. ARGV[4], ARGV[5], id)
end
return id

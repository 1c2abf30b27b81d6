-- KEYS record queue tombstone dispatch:pending events marks; ARGV uuid, outcome, reason, max length, max bytes.
-- Answers the ids of the chats that got their outcome now. Other demand stays.
return settle({
  events = KEYS[5], marks = KEYS[6], record = KEYS[1], tombstone = KEYS[3],
  max_length = tonumber(ARGV[4]), max_bytes = tonumber(ARGV[5]),
}, KEYS[2], KEYS[4], ARGV[1], ARGV[2], ARGV[3])

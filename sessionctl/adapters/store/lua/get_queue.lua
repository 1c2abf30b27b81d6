-- KEYS queue record. Answers {awake, chats, outside}.
local found = tally(KEYS[1], KEYS[2])
return { found.awake, found.waiting, found.outside }

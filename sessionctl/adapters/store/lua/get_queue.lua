-- KEYS queue record. Answers {awake, chats, outside}.
local found = classify(KEYS[1], KEYS[2])
return { found.awake, #found.chats, found.outside }

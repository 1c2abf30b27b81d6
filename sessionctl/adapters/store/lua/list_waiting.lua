-- KEYS queue record. Answers the chats, in order, and whether each was sent.
local found, answer = classify(KEYS[1], KEYS[2]), {}
for index, element in ipairs(found.chats) do
  table.insert(answer, element)
  table.insert(answer, read_chat(KEYS[2], found.ids[index]).pod and 1 or 0)
end
return answer

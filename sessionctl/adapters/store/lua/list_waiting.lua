-- KEYS queue record. Answers the chats, in order.
return classify(KEYS[1], KEYS[2]).chats

-- Shared by the scripts that write about one chat under a fence. Returns the chat, or nil and the word of the answer.
local function held_chat(record, token, id)
  local held, text = holds(record, token, id)
  if not held then
    return nil, 'lost'
  end
  local chat = decode_chat(text)
  return chat, chat == nil and 'ended' or nil
end

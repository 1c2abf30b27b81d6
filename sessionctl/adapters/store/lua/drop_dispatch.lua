-- KEYS record lock; ARGV token.
if holds(KEYS[1], ARGV[1]) then
  give_back(KEYS[1], KEYS[2])
end
return 1

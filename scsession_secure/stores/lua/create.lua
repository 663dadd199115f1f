#!lua
-- Keep a new record. KEYS: the record. ARGV: now; seconds for which an ended one is remembered; milliseconds to live,
-- or "" for ever; then fields and values. Answers 1, or the hash that is there.
local at = redis.call('HGET', KEYS[1], '\255at')
if at and at + ARGV[2] <= tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGETALL', KEYS[1])
end
for first = 4, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
if ARGV[3] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1

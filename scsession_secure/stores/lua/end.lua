#!lua flags=allow-oom
-- End a record. KEYS: the record. ARGV: the version that it must have, or ""; the reason, the moment and the operation
-- to remember; milliseconds for which to remember them. Answers the hash that was there: it was ended if it was live,
-- and of this version. The names of its latest changes stay, for the one whose answer was lost.
local key = KEYS[1]
local found = redis.call('HMGET', key, '\255version', '\255changes', '\255reason')
local before = redis.call('HGETALL', key)
if not found[1] or found[3] or (ARGV[1] ~= '' and ARGV[1] ~= found[1]) then
  return before
end
redis.call('DEL', key)
redis.call('HSET', key, '\255reason', ARGV[2], '\255at', ARGV[3], '\255operation', ARGV[4])
redis.call('HSET', key, '\255version', found[1], '\255changes', found[2] or '')
redis.call('PEXPIRE', key, ARGV[5])
return before

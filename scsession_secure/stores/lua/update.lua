#!lua
-- Change a record, all or nothing. KEYS: the record. ARGV: the change's random name of 8 bytes, and one more byte if it
-- may have been sent before; the version that the record must
-- have, or ""; now; seconds that the record is kept past its deadline; the deadline to set, or ""; the deadline to
-- extend to, or ""; how many values follow to expect, to put, to drop; then those. To expect is a field, and "=" with
-- its value, or "" if it must be absent. Answers the new version, or the hash that is there.
local key, name, again = KEYS[1], ARGV[1]:sub(1, 8), #ARGV[1] > 8
local kept = 16 * #name -- as in _operations.py
local found = redis.call('HMGET', key, '\255version', '\255changes', '\255expires', '\255reason')
local version, changes = tonumber(found[1]), found[2] or ''

for back = 0, #changes / #name - 1 do -- sent again: it has been made already
  local last = #changes - back * #name
  if changes:sub(last - #name + 1, last) == name then
    return version - back
  end
end

if again and #changes == kept then -- it may have been made, and its name be gone
  return redis.error_reply('AMBIGUOUS too many changes have been made since')
end

local expect_end = 9 + ARGV[7]
local put_end = expect_end + ARGV[8]
local drop_end = put_end + ARGV[9]
local as_expected = version and not found[4] and (ARGV[2] == '' or ARGV[2] == found[1])
for place = 10, expect_end, 2 do
  local held = as_expected and redis.call('HGET', key, ARGV[place])
  as_expected = as_expected and (held and '=' .. held or '') == ARGV[place + 1]
end
if not as_expected then
  return redis.call('HGETALL', key)
end

for first = expect_end + 1, put_end, 1000 do
  redis.call('HSET', key, unpack(ARGV, first, math.min(first + 999, put_end)))
end
for first = put_end + 1, drop_end, 1000 do
  redis.call('HDEL', key, unpack(ARGV, first, math.min(first + 999, drop_end)))
end
changes = (changes .. name):sub(-kept)
redis.call('HSET', key, '\255version', string.format('%.0f', version + 1), '\255changes', changes)

local deadline = ARGV[5] ~= '' and ARGV[5] or found[3]
if ARGV[6] ~= '' and tonumber(ARGV[6]) > tonumber(deadline) then
  deadline = ARGV[6]
end
if deadline ~= found[3] then
  redis.call('HSET', key, '\255expires', deadline)
  local left = math.max(deadline - ARGV[3], 0) + ARGV[4]
  if left < 1e10 then
    redis.call('PEXPIRE', key, string.format('%.0f', left * 1000))
  else
    redis.call('PERSIST', key)
  end
end
return version + 1

#!lua
-- List a session as its owner's. KEYS: the owner's sessions, a sorted set by the moment of their end at the latest.
-- ARGV: the session; its moment; now; seconds that an entry is kept past its moment.
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3] - ARGV[4])
local last = tonumber(redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or ARGV[3])
local left = math.max(last - ARGV[3], 0) + ARGV[4]
if left < 1e10 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left * 1000))
else
  redis.call('PERSIST', KEYS[1])
end
return 1

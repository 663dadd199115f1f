#!lua flags=allow-oom
-- Look at a session again later, if it is still listed. KEYS: the sessions by deadline. ARGV: the session; the moment.
-- Nothing grows: what has expired must be found also when there is no memory left, or there will never be any.
return redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[1])

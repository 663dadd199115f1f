"""Real servers, as child processes on free ports of 127.0.0.1, with their data in temporary folders.

process       what they have in common: start, stop, kill, restart, pause, resume at one address; guard: no orphans
redis         Redis, Valkey, and looking at them (certificates: for TLS)
clusters      RedisCluster, RedisSentinel
memcached     Memcached
sql           Postgres, MariaDB
fixtures      shared servers of the test run, and own ones for a test that breaks them
"""

from __future__ import annotations

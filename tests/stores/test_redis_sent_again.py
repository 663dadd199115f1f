"""A change that Redis is sent again, at any distance from the first time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scsession_secure.record import Patch, Row
from scsession_secure.stores._operations import KEPT, name_of_a_change
from scsession_secure.stores._redis_records import Command, create, in_full, sent_again, update
from tests.harness.backends.redis import Redis, RedisReplyError

NOW = 1.8e9
Send = Callable[[Command], object]


@pytest.fixture
def key(redis_server: Redis, prefix: str) -> bytes:
    key = f"{prefix}s:id".encode()
    redis_server.call(*in_full(create(key, Row(1, NOW + 60, None, {}), NOW)).parts)
    return key


def changed(key: bytes, **values: bytes) -> Command:
    return in_full(update(key, Patch(put=values), name_of_a_change(), NOW))


@pytest.mark.parametrize("others", [0, 1, KEPT - 1])
def test_it_recognises_itself(redis_server: Redis, key: bytes, others: int) -> None:
    """As long as its name is kept it answers the version that it made, and is not made twice."""
    mine = changed(key, a=b"mine")
    assert redis_server.call(*mine.parts) == 2
    for _ in range(others):
        redis_server.call(*changed(key, a=b"theirs").parts)
    assert redis_server.call(*sent_again(mine).parts) == 2
    assert redis_server.call("HGET", key, "a") == (b"theirs" if others else b"mine")


def test_it_admits_that_it_cannot_know(redis_server: Redis, key: bytes) -> None:
    """When so many others came in between that its name is gone, it is an error, and neither made nor a conflict."""
    mine = changed(key, a=b"mine")
    redis_server.call(*mine.parts)
    for _ in range(KEPT):
        redis_server.call(*changed(key, a=b"theirs").parts)
    with pytest.raises(RedisReplyError, match="AMBIGUOUS"):
        redis_server.call(*sent_again(sent_again(mine)).parts)
    assert redis_server.call("HGET", key, "a") == b"theirs"


def test_the_first_time_is_no_second(redis_server: Redis, key: bytes) -> None:
    """A change that was never sent is made, however many came before; and one that is sent again is made if it was
    not, as long as that can be known."""
    for _ in range(KEPT - 1):
        redis_server.call(*changed(key, a=b"theirs").parts)
    assert redis_server.call(*sent_again(changed(key, a=b"mine")).parts) == KEPT + 1
    assert redis_server.call(*changed(key, a=b"more").parts) == KEPT + 2


def test_only_changes_are_marked() -> None:
    """Reads and ends need no mark: they recognise themselves otherwise."""
    read = Command(b"k", ("HGETALL", b"k"))
    assert sent_again(read) == read
    assert sent_again(Command(b"", ("PING",))) == Command(b"", ("PING",))

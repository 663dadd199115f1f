"""The contract of `end`, of deadlines and `sweep`, of `owned_by`, and of a store's life."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from typing import Any, Final

import pytest

from ..record import ENDED_RETENTION, Conflict, Ended, Patch, Row
from ..stores import Store, Sweeper, Swept
from ._contract_support import (
    acknowledged,
    created,
    facts,
    live,
    needs,
    new_id,
    new_row,
    owner_index,
    sweeper,
    swept,
    together,
    turns,
)
from .clock import Clock

ODD_OWNERS: Final = (
    "O'Brien",
    'a"b',
    "ünïcode-日本語-🍪",
    "%",
    "_",
    "*",
    "a:b/c?d#e",
    "{x}",
    " a ",
    "A",
    "a",
    "0",
    "x" * 200,
)


class EndContract:
    """What has ended stays ended, is handed out once, and is forgotten in time."""

    # End

    @pytest.mark.asyncio
    async def test_end(self, store: Store, peer: Store, clock: Clock) -> None:
        """Who ends a session gets its final row; then only the reason, the time and the operation are left."""
        id = await created(store, clock, {"d:a": b"1"}, owner="ann")
        await peer.update(id, Patch(put={"d:b": b"2"}))
        before = await live(store, id)
        clock.move(5)
        assert await store.end(id, "logout", operation="op-1") == before
        left = await peer.get(id)
        assert isinstance(left, Ended)
        assert (left.reason, left.operation) == ("logout", "op-1")
        assert left.at == pytest.approx(clock.now, abs=1)

    @pytest.mark.asyncio
    async def test_repeated_end(self, store: Store, peer: Store, clock: Clock) -> None:
        """A second end is told of the first, and one that is sent again after a lost answer finds its own operation."""
        id = await created(store, clock)
        await store.end(id, "logout", operation="op-1")
        first = await store.get(id)
        assert isinstance(first, Ended)
        assert first.operation == "op-1"
        for operation in ("op-1", "op-2"):
            assert await peer.end(id, "revoked", operation=operation) == first
            assert await peer.end(id, "revoked", operation=operation, if_version=1) == first
        assert await store.get(id) == first

    @pytest.mark.asyncio
    async def test_end_if_version(self, store: Store, clock: Clock) -> None:
        """An end for another version changes nothing and is answered with the current row."""
        id = await created(store, clock)
        version = await store.update(id, Patch(put={"d:a": b"2"}))
        assert isinstance(version, int)
        row = await live(store, id)
        assert await store.end(id, "replaced", if_version=version - 1, operation="op") == Conflict(row)
        assert await store.get(id) == row
        assert await store.end(id, "replaced", if_version=version, operation="op") == row

    @pytest.mark.asyncio
    async def test_concurrent_ends(self, store: Store, peer: Store, clock: Clock) -> None:
        """Of many that end a session at once exactly one gets the row; the others learn whose operation it was."""
        id = await created(store, clock)
        row = await live(store, id)
        answers = await together(
            one.end(id, f"reason-{number}", operation=f"op-{number}")
            for number, one in zip(range(40), turns(store, peer), strict=False)
        )
        (winner,) = [number for number, answer in enumerate(answers) if isinstance(answer, Row)]
        assert answers[winner] == row
        left = await store.get(id)
        assert isinstance(left, Ended)
        assert (left.reason, left.operation) == (f"reason-{winner}", f"op-{winner}")
        assert all(answer == left for number, answer in enumerate(answers) if number != winner)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("ender", [0, 1, 5, 10])
    async def test_end_beside_updates(self, store: Store, peer: Store, clock: Clock, ender: int) -> None:
        """No update revives a session that ends meanwhile, and each that was acknowledged is in the final row."""
        id = await created(store, clock, {})
        calls: list[Awaitable[int | Conflict | Ended | Row | None]] = [
            one.update(id, Patch(put={f"d:{number}": b"1"}, extend_to=clock.now + 99 + number))
            for number, one in zip(range(10), turns(store, peer), strict=False)
        ]
        calls.insert(ender, store.end(id, "logout", operation="op"))
        answers = await together(calls)
        final = answers.pop(ender)
        assert isinstance(final, Row)
        assert set(final.fields) == acknowledged(answers)
        assert all(isinstance(answer, int | Ended) for answer in answers)
        assert isinstance(await store.get(id), Ended)

    @pytest.mark.asyncio
    async def test_end_by_version_beside_updates(self, store: Store, peer: Store, clock: Clock) -> None:
        """Who reads, then ends exactly what was read, and tries again on a Conflict, loses no acknowledged write."""
        id = await created(store, clock, {})

        async def rotate() -> Row:
            row = await live(store, id)
            await asyncio.sleep(0)  # the updates begin
            answer = await store.end(id, "replaced", if_version=row.version, operation="op")
            while isinstance(answer, Conflict):
                row = answer.row
                answer = await store.end(id, "replaced", if_version=row.version, operation="op")
            assert answer == row
            return row

        final, *answers = await together(
            [rotate(), *(peer.update(id, Patch(put={f"d:{number}": b"1"})) for number in range(30))]
        )
        assert isinstance(final, Row)
        assert set(final.fields) == acknowledged(answers)

    @pytest.mark.asyncio
    async def test_what_is_left_is_kept(self, store: Store, clock: Clock) -> None:
        """What is left of a session stays for the retention: after that it may be forgotten, and never lives again."""
        id = await created(store, clock, after=1)
        await store.end(id, "logout", operation="op")
        left = await store.get(id)
        clock.move(ENDED_RETENTION - 1)
        await swept(store, clock)
        assert await store.get(id) == left
        clock.move(2)
        await swept(store, clock)
        assert await store.get(id) == (None if isinstance(store, Sweeper) else left)

    # Deadlines

    @pytest.mark.asyncio
    async def test_past_the_deadline(self, store: Store, clock: Clock) -> None:
        """A store does not judge: a row past its deadline is given, changed and ended until it has been collected."""
        id = await created(store, clock, after=10)
        row = await live(store, id)
        clock.move(20)
        assert await store.get(id) == row
        assert isinstance(await store.update(id, Patch(put={"d:late": b"1"})), int)
        assert isinstance(await store.end(id, "idle", operation="op"), Row)

    @needs("sweep")
    @pytest.mark.asyncio
    async def test_sweep(self, store: Store, peer: Store, clock: Clock) -> None:
        """A sweep ends what is at or past its deadline, with its row and the reason, and nothing else."""
        sweeping = sweeper(store)
        idle = await created(store, clock, facts(clock, absolute_after=99), after=10, owner="ann")
        absolute = await created(store, clock, facts(clock, absolute_after=10), after=10)
        not_yet = await created(store, clock, after=10.5)
        rows = {id: await live(store, id) for id in (idle, absolute)}
        clock.move(9.5)
        assert await sweeping.sweep(clock.now, 100) == []
        clock.move(0.5)
        found = await sweeping.sweep(clock.now, 100)
        assert {one.id: one for one in found} == {
            idle: Swept(idle, rows[idle], "idle"),
            absolute: Swept(absolute, rows[absolute], "absolute"),
        }
        for id, reason in ((idle, "idle"), (absolute, "absolute")):
            left = await peer.get(id)
            assert isinstance(left, Ended)
            assert left.reason == reason
            assert isinstance(await peer.update(id, Patch(put={"d:a": b"2"})), Ended)
        assert isinstance(await store.get(not_yet), Row)
        assert await sweeping.sweep(clock.now, 100) == []

    @needs("sweep")
    @pytest.mark.asyncio
    async def test_sweep_keeps_to_its_limit(self, store: Store, clock: Clock) -> None:
        """A sweep ends no more than its limit; the next ones go on."""
        sweeping = sweeper(store)
        ids = {await created(store, clock, after=number) for number in range(25)}
        clock.move(30)
        sizes, found = [], set[str]()
        while batch := await sweeping.sweep(clock.now, 10):
            sizes.append(len(batch))
            found |= {one.id for one in batch}
        assert sizes == [10, 10, 5]
        assert found == ids

    @needs("sweep")
    @pytest.mark.asyncio
    async def test_sweepers_claim_once(self, store: Store, peer: Store, clock: Clock) -> None:
        """Of many sweepers at once, exactly one is given each session."""
        ids = [await created(store, clock, after=1) for _ in range(50)]
        clock.move(2)
        batches = await together(swept(one, clock, 7) for one in itertools.islice(turns(store, peer), 20))
        assert sorted(one.id for batch in batches for one in batch) == sorted(ids)

    @needs("sweep")
    @pytest.mark.asyncio
    async def test_sweep_spares_what_was_touched(self, store: Store, peer: Store, clock: Clock) -> None:
        """A session that was touched before the sweep lives; one whose deadline was moved earlier goes."""
        touched, shortened = await created(store, clock, after=10), await created(store, clock, after=1000)
        await peer.update(touched, Patch(extend_to=clock.now + 100))
        await peer.update(shortened, Patch(set_expires_at=clock.now + 5))
        clock.move(50)
        assert [one.id for one in await swept(store, clock)] == [shortened]
        assert isinstance(await store.get(touched), Row)
        clock.move(50)
        assert [one.id for one in await swept(store, clock)] == [touched]

    @needs("sweep")
    @pytest.mark.asyncio
    async def test_sweep_beside_touches(self, store: Store, peer: Store, clock: Clock) -> None:
        """A session that is touched and swept at once is either alive and not reported, or ended and reported."""
        ids = [await created(store, clock, after=1) for _ in range(40)]
        clock.move(2)
        calls: list[Awaitable[Any]] = [peer.update(id, Patch(extend_to=clock.now + 100)) for id in ids]
        for place in (0, 15, 30):
            calls.insert(place, swept(store, clock, 15))
        answers = await together(calls)
        reported = {one.id for answer in answers if isinstance(answer, list) for one in answer}
        assert {id for id in ids if isinstance(await store.get(id), Ended)} == reported
        touched = [answer for answer in answers if not isinstance(answer, list)]
        assert {id for id, answer in zip(ids, touched, strict=True) if isinstance(answer, Ended)} == reported

    @needs("sweep")
    @pytest.mark.asyncio
    async def test_sweep_leaves_the_ended_alone(self, store: Store, clock: Clock) -> None:
        """A session that was ended before its deadline is not reported when that comes, and keeps its reason."""
        id = await created(store, clock, after=10)
        await store.end(id, "logout", operation="op")
        left = await store.get(id)
        clock.move(20)
        assert await swept(store, clock) == []
        assert await store.get(id) == left

    # Owners

    @needs("owned_by")
    @pytest.mark.asyncio
    async def test_owned_by(self, store: Store, peer: Store, clock: Clock) -> None:
        """An owner's live sessions are all found, with their rows as they are now, and no one else's."""
        index = owner_index(peer)
        ann, eve = (f"{name}-{new_id()}" for name in ("ann", "eve"))
        ids = [await created(store, clock, owner=ann) for _ in range(5)]
        await created(store, clock, owner=eve)
        await created(store, clock)
        await store.update(ids[0], Patch(put={"d:a": b"changed"}, extend_to=clock.now + 999))
        assert await index.owned_by(ann) == {id: await live(store, id) for id in ids}
        await store.end(ids[1], "logout", operation="op")
        found = await index.owned_by(ann)
        assert set(ids) - {ids[1]} <= set(found) <= set(ids)
        assert await index.owned_by(f"nobody-{new_id()}") == {}

    @needs("owned_by")
    @pytest.mark.asyncio
    async def test_odd_owners(self, store: Store, clock: Clock) -> None:
        """Any text is an owner, and each is another one: nothing is folded, trimmed or read as a pattern."""
        index = owner_index(store)
        ids = {owner: await created(store, clock, owner=owner) for owner in ODD_OWNERS}
        for owner, id in ids.items():
            assert (await live(store, id)).owner == owner
            assert await index.owned_by(owner) == {id: await live(store, id)}

    @needs("owned_by")
    @pytest.mark.asyncio
    async def test_owned_by_misses_none(self, store: Store, peer: Store, clock: Clock) -> None:
        """Sessions that an owner gets in parallel are all found."""
        index = owner_index(store)
        ids, owner = [new_id() for _ in range(50)], f"ann-{new_id()}"
        await together(
            one.create(id, new_row(clock, owner=owner)) for one, id in zip(turns(store, peer), ids, strict=False)
        )
        assert set(await index.owned_by(owner)) == set(ids)

    # Life of the store

    @pytest.mark.asyncio
    async def test_cancelled_callers(self, store: Store, clock: Clock) -> None:
        """A caller that is cancelled disturbs no other: their answers are theirs, and every kept write is whole."""
        id = await created(store, clock, {})
        tasks = [
            asyncio.ensure_future(store.update(id, Patch(put={f"d:{number}": b"1", f"f:{number}": b"1"})))
            for number in range(30)
        ]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        fields = (await live(store, id)).fields
        for number, answer in enumerate(answers):
            kept = {f"d:{number}" in fields, f"f:{number}" in fields}
            assert kept in ([{True}] if isinstance(answer, int) else [{True}, {False}])
            assert isinstance(answer, int if number % 3 else int | asyncio.CancelledError)

    @pytest.mark.asyncio
    async def test_close(self, store: Store, clock: Clock) -> None:
        """A closed store opens itself again when it is used, and has what it had; closing twice does no harm."""
        id = await created(store, clock)
        row = await live(store, id)
        await store.close()
        await store.close()
        assert await store.get(id) == row
        await store.close()
        assert isinstance(await store.update(id, Patch(put={"d:a": b"2"})), int)

    @pytest.mark.asyncio
    async def test_ping(self, store: Store) -> None:
        """A store that is up says so."""
        await store.ping()

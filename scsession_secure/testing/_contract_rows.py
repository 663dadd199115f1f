"""The contract of `get`, `create` and `update`."""

from __future__ import annotations

import itertools
from typing import Final

import pytest

from ..record import Conflict, Ended, Patch, Row
from ..stores import Store
from ._contract_support import created, live, new_id, new_row, refused, together, turns
from .clock import Clock

ODD_NAMES: Final = {
    "empty key": "d:",
    "unicode": "d:naïve-日本語-🍪",
    "quotes": "d:\"'`;--\\",
    "like a pattern": "d:%_*?[a]",
    "like a path": "d:../../a/b:c",
    "spaces and line ends": "d: \t\r\n ",
    "braces": "d:{a}{{b}}$1",
    "200 characters": "d:" + "k" * 200,
}
ODD_VALUES: Final = {
    "empty": b"",
    "NUL": b"\x00",
    "with NULs": b"a\x00b\x00",
    "every byte": bytes(range(256)),
    "line ends": b"\r\n\r\nEND\r\n",
    "64 KiB": bytes(range(256)) * 256,
}


class RowContract:
    """Rows are kept as given; there is no upsert; patches merge and compare."""

    # What is kept

    @pytest.mark.asyncio
    async def test_unknown_id(self, store: Store) -> None:
        """Of an id that was never created, every method knows nothing."""
        id = new_id()
        assert await store.get(id) is None
        assert await store.update(id, Patch(put={"d:a": b"1"})) is None
        assert await store.end(id, "logout", operation="op") is None
        assert await store.get(id) is None

    @pytest.mark.asyncio
    async def test_create_keeps_the_row(self, store: Store, peer: Store, clock: Clock) -> None:
        """A created row is read back equal, by every worker."""
        id, row = new_id(), new_row(clock, owner="ann")
        assert await store.create(id, row) is True
        assert await store.get(id) == row
        assert await peer.get(id) == row

    @pytest.mark.asyncio
    async def test_a_row_is_kept_as_it_was_given(self, store: Store, clock: Clock) -> None:
        """What the caller does with its mapping afterwards changes nothing that is stored."""
        id, fields = new_id(), {"d:a": b"1"}
        await store.create(id, Row(1, clock.now + 60, None, fields))
        fields["d:a"] = b"2"
        assert (await live(store, id)).fields == {"d:a": b"1"}

    @pytest.mark.asyncio
    async def test_a_row_handed_out_does_not_change(self, store: Store, clock: Clock) -> None:
        """A row that was read stays as it was read, whatever is written later."""
        id = await created(store, clock)
        before = await live(store, id)
        fields = dict(before.fields)
        await store.update(id, Patch(put={"d:a": b"2"}, drop=["d:b"]))
        assert before.fields == fields

    @pytest.mark.asyncio
    async def test_create_does_not_overwrite_a_row(self, store: Store, peer: Store, clock: Clock) -> None:
        """A second row under a live id is refused, and the first stays."""
        id, row = new_id(), new_row(clock)
        await store.create(id, row)
        for other in (new_row(clock, {"d:a": b"other"}), new_row(clock, owner="eve"), new_row(clock, after=7)):
            assert await peer.create(id, other) is False
        assert await store.get(id) == row

    @pytest.mark.asyncio
    async def test_create_does_not_overwrite_an_ended_one(self, store: Store, peer: Store, clock: Clock) -> None:
        """An ended id is not used again, even for the row that it had."""
        id, row = new_id(), new_row(clock)
        await store.create(id, row)
        await store.end(id, "logout", operation="op")
        assert await peer.create(id, row) is False
        assert isinstance(await store.get(id), Ended)

    @pytest.mark.asyncio
    async def test_repeated_create(self, store: Store, clock: Clock) -> None:
        """A create that is sent again after a lost answer recognises its own row; a changed row is another one."""
        id, row = new_id(), new_row(clock, owner="ann")
        assert [await store.create(id, row) for _ in range(3)] == [True, True, True]
        assert await store.get(id) == row
        await store.update(id, Patch(put={"d:a": b"changed"}))
        assert await store.create(id, row) is False
        assert (await live(store, id)).fields["d:a"] == b"changed"

    @pytest.mark.asyncio
    async def test_concurrent_creates(self, store: Store, peer: Store, clock: Clock) -> None:
        """Of many rows created under one id at once, exactly one is kept, and only its creator is told True."""
        id = new_id()
        rows = [new_row(clock, {"d:a": b"%d" % number}) for number in range(40)]
        answers = await together(one.create(id, row) for one, row in zip(turns(store, peer), rows, strict=False))
        assert answers.count(True) == 1
        assert await store.get(id) == rows[answers.index(True)]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
    async def test_odd_field_names(self, store: Store, clock: Clock, name: str) -> None:
        """Any text names a field: created, put, expected, dropped."""
        id = await created(store, clock, {name: b"1", "d:other": b"o"})
        assert (await live(store, id)).fields == {name: b"1", "d:other": b"o"}
        assert isinstance(await store.update(id, Patch(put={name: b"2"}, expect={name: b"1"})), int)
        assert (await live(store, id)).fields == {name: b"2", "d:other": b"o"}
        assert isinstance(await store.update(id, Patch(drop=[name])), int)
        assert (await live(store, id)).fields == {"d:other": b"o"}

    @pytest.mark.asyncio
    @pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
    async def test_odd_values(self, store: Store, clock: Clock, value: bytes) -> None:
        """Any bytes are a value: created, put, expected, handed out at the end."""
        id = await created(store, clock, {"d:a": value})
        assert (await live(store, id)).fields == {"d:a": value}
        patch = Patch(put={"d:b": value}, expect={"d:a": value, "d:b": None})
        assert isinstance(await store.update(id, patch), int)
        assert isinstance(await store.update(id, patch), Conflict)
        final = await store.end(id, "logout", operation="op")
        assert isinstance(final, Row)
        assert final.fields == {"d:a": value, "d:b": value}

    @pytest.mark.asyncio
    async def test_many_fields(self, store: Store, clock: Clock) -> None:
        """A row of a thousand fields comes back whole, and so does one of none."""
        fields = {f"d:{number}": b"%d" % number for number in range(1000)}
        id, empty = await created(store, clock, fields), await created(store, clock, {})
        assert (await live(store, id)).fields == fields
        assert (await live(store, empty)).fields == {}

    # Update

    @pytest.mark.asyncio
    async def test_update_merges(self, store: Store, peer: Store, clock: Clock) -> None:
        """Only the fields that a patch names are changed; the answer is the new version, greater than the old."""
        id = await created(store, clock, {"d:keep": b"k", "d:change": b"1", "d:drop": b"x"}, owner="ann")
        before = await live(store, id)
        version = await peer.update(id, Patch(put={"d:change": b"2", "d:new": b"n"}, drop=["d:drop", "d:absent"]))
        row = await live(store, id)
        assert row.fields == {"d:keep": b"k", "d:change": b"2", "d:new": b"n"}
        assert row.version == version
        assert row.version > before.version
        assert (row.owner, row.expires_at) == (before.owner, before.expires_at)

    @pytest.mark.asyncio
    async def test_a_patch_of_several_fields(self, store: Store, clock: Clock) -> None:
        """Whichever fields a patch sets and drops at once, in whatever order, each of them is set and dropped."""
        for order, dropped in itertools.product(itertools.permutations(("d:a", "d:b", "d:c")), range(8)):
            drop = [name for bit, name in enumerate(("d:a", "d:b", "d:c")) if dropped >> bit & 1]
            put = {name: b"2" for name in order if name not in drop}
            id = await created(store, clock, dict.fromkeys(("d:a", "d:b", "d:c"), b"1"))
            assert isinstance(await store.update(id, Patch(put=put, drop=drop)), int)
            assert (await live(store, id)).fields == put

    @pytest.mark.asyncio
    async def test_update_does_not_revive(self, store: Store, peer: Store, clock: Clock) -> None:
        """An update of an ended session says how it ended, and leaves it so."""
        id = await created(store, clock)
        await store.end(id, "logout", operation="op")
        patch = Patch(put={"d:a": b"2"}, extend_to=clock.now + 999, set_expires_at=clock.now + 99)
        answer = await peer.update(id, patch)
        assert isinstance(answer, Ended)
        assert answer.reason == "logout"
        assert await store.get(id) == answer

    @pytest.mark.asyncio
    async def test_expect(self, store: Store, clock: Clock) -> None:
        """A patch applies only if each expected field holds its bytes; else nothing of it does."""
        id = await created(store, clock, {"d:a": b"1", "d:b": b"1"})
        await refused(store, id, Patch(put={"d:a": b"2"}, extend_to=clock.now + 999, expect={"d:a": b"0"}))
        await refused(store, id, Patch(drop=["d:a"], expect={"d:a": b"1", "d:b": b"0"}))
        await refused(store, id, Patch(put={"d:a": b"2"}, expect={"d:c": b"1"}))
        await refused(store, id, Patch(put={"d:a": b"2"}, expect={"d:c": b""}))
        assert isinstance(await store.update(id, Patch(put={"d:a": b"2"}, expect={"d:a": b"1", "d:b": b"1"})), int)
        assert (await live(store, id)).fields == {"d:a": b"2", "d:b": b"1"}

    @pytest.mark.asyncio
    async def test_expect_absent(self, store: Store, clock: Clock) -> None:
        """None expects that there is no such field; an empty one is one."""
        id = await created(store, clock, {"d:a": b"1", "d:empty": b""})
        await refused(store, id, Patch(put={"d:b": b"2"}, expect={"d:a": None}))
        await refused(store, id, Patch(put={"d:b": b"2"}, expect={"d:empty": None}))
        assert isinstance(await store.update(id, Patch(put={"d:b": b"2"}, expect={"d:b": None, "d:empty": b""})), int)
        await refused(store, id, Patch(put={"d:b": b"3"}, expect={"d:b": None}))

    @pytest.mark.asyncio
    async def test_update_if_version(self, store: Store, clock: Clock) -> None:
        """A patch for another version changes nothing and is answered with the current row."""
        id = await created(store, clock)
        version = await store.update(id, Patch(put={"d:a": b"2"}))
        assert isinstance(version, int)
        await refused(store, id, Patch(put={"d:a": b"3"}, if_version=version - 1))
        await refused(store, id, Patch(put={"d:a": b"3"}, if_version=version + 1))
        assert isinstance(await store.update(id, Patch(put={"d:a": b"3"}, if_version=version)), int)
        assert (await live(store, id)).fields["d:a"] == b"3"

    @pytest.mark.asyncio
    async def test_deadline(self, store: Store, clock: Clock) -> None:
        """`extend_to` only raises the deadline, `set_expires_at` sets it, and is looked at first."""
        id, start = await created(store, clock, after=100), clock.now
        for patch, expected in (
            (Patch(extend_to=start + 50), 100),
            (Patch(extend_to=start + 150), 150),
            (Patch(set_expires_at=start + 60), 60),
            (Patch(set_expires_at=start + 40, extend_to=start + 50), 50),
            (Patch(set_expires_at=start + 90, extend_to=start + 80), 90),
            (Patch(put={"d:a": b"2"}), 90),
            (Patch(set_expires_at=start + 120.25), 120.25),
        ):
            assert isinstance(await store.update(id, patch), int)
            assert (await live(store, id)).expires_at == start + expected

    @pytest.mark.asyncio
    async def test_concurrent_updates_are_all_kept(self, store: Store, peer: Store, clock: Clock) -> None:
        """A hundred writers of different fields keep every one, and each gets a version of its own."""
        id = await created(store, clock, {})
        patches = [Patch(put={f"d:{number}": b"%d" % number}) for number in range(100)]
        versions = await together(
            one.update(id, patch) for one, patch in zip(turns(store, peer), patches, strict=False)
        )
        row = await live(store, id)
        assert row.fields == {f"d:{number}": b"%d" % number for number in range(100)}
        assert len(set(versions)) == 100
        assert max(version for version in versions if isinstance(version, int)) == row.version

    @pytest.mark.asyncio
    async def test_concurrent_extensions(self, store: Store, peer: Store, clock: Clock) -> None:
        """Of many touches at once the latest deadline stays, in whatever order they came."""
        id, start = await created(store, clock, after=1), clock.now
        touches = [Patch(extend_to=start + (number * 37 % 100)) for number in range(100)]
        await together(one.update(id, touch) for one, touch in zip(turns(store, peer), touches, strict=False))
        assert (await live(store, id)).expires_at == start + 99

    @pytest.mark.asyncio
    @pytest.mark.parametrize("guard", ["if_version", "expect", "expect absent"])
    async def test_one_winner(self, store: Store, peer: Store, clock: Clock, guard: str) -> None:
        """Of many patches at once that expect the same state one applies, and the others get the row that it made."""
        id = await created(store, clock, {"d:a": b"1"})
        version = (await live(store, id)).version
        patches = [
            {
                "if_version": Patch(put={"d:won": b"%d" % number}, if_version=version),
                "expect": Patch(put={"d:won": b"%d" % number}, drop=["d:a"], expect={"d:a": b"1"}),
                "expect absent": Patch(put={"d:won": b"%d" % number}, expect={"d:won": None}),
            }[guard]
            for number in range(40)
        ]
        answers = await together(one.update(id, patch) for one, patch in zip(turns(store, peer), patches, strict=False))
        (winner,) = [number for number, answer in enumerate(answers) if isinstance(answer, int)]
        row = await live(store, id)
        assert row.fields["d:won"] == b"%d" % winner
        assert all(answer == Conflict(row) for number, answer in enumerate(answers) if number != winner)

"""Secrets, the keys derived from them, and what they seal."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.datastructures import Secret

from scsession_secure import ConfigurationError, SCsessionMiddleware
from scsession_secure.crypto import Keyring, Unopened, b64, new_id, unb64
from scsession_secure.record import Patch
from tests.harness import asgi
from tests.identity import NEW, OLD, World, ask, do, heard, obey, ours, put

RECORD = "r" * 22


# -- secrets -------------------------------------------------------------------------------------------------------


class Shy:
    """Pydantic's SecretStr in shape: str() shows asterisks."""

    def __init__(self, value):
        self.value = value

    def get_secret_value(self):
        return self.value

    def __repr__(self):
        return "Shy()"  # the same in every process: it names a test

    def __str__(self):
        return "**********"


@pytest.mark.parametrize(
    "secret",
    [NEW.encode(), Secret(NEW), Shy(NEW), Shy(NEW.encode()), SecretStr(NEW), [NEW], (Secret(NEW),), [Shy(NEW)]],
)
def test_the_same_secret_in_any_dress_is_the_same_key(secret):
    """Starlette's Secret and what has get_secret_value() are read for what they hold, never as asterisks."""
    ring, plain = Keyring(secret), Keyring(NEW)
    assert ring.newest == plain.newest
    assert ring.mark(ring.newest, "x") == plain.mark(plain.newest, "x")
    assert ring.sealer(RECORD).open("n", plain.sealer(RECORD).seal("n", b"value")) == b"value"


@pytest.mark.parametrize(
    "secret",
    [
        None,
        [],
        (),
        12345,
        object(),
        {"a": NEW},
        {NEW},
        [None],
        [NEW, None],
        [[NEW]],
        Shy(None),
        True,
        bytearray(NEW.encode()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_sc001_no_secret(secret):
    """A secret that is missing, or of a type that nobody knows how to read, is refused (SC001)."""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(secret)
    assert raised.value.id == "SC001"


@pytest.mark.parametrize(
    "secret",
    ["", b"", NEW[:31], NEW[:31].encode(), Shy(NEW[:8]), Secret("x"), SecretStr(""), [NEW, OLD[:31]], "ä" * 15],
    ids=repr,
)
def test_sc002_a_short_secret(secret):
    """Less than 32 characters can be guessed offline from one cookie, also as an old key (SC002)."""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(secret)
    assert raised.value.id == "SC002"


def test_32_characters_are_enough():
    """The boundary itself is allowed."""
    assert len(NEW[:32]) == 32
    assert Keyring(NEW[:32]).newest


@pytest.mark.parametrize(
    "secret",
    [
        "changeme-" + NEW, "my-Change-Me-" + NEW, "CHANGE_ME" + NEW, "your-secret-key-goes-here-0123456789",
        "x" * 64, "ab" * 40, "0" * 32, "placeholder" + NEW, b"example-" + NEW.encode(), "correct-password-" + NEW,
        Shy("*" * 40), "your_secret" + NEW, [NEW, "a" * 40],
    ],
    ids=repr,
)  # fmt: skip
def test_sc003_a_placeholder(secret):
    """What stands in tutorials, and what hardly varies, is no secret (SC003)."""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(secret)
    assert raised.value.id == "SC003"


@pytest.mark.parametrize("secrets", [[NEW, NEW], [NEW, OLD, NEW.encode()], [Secret(NEW), SecretStr(NEW)]])
def test_sc004_the_same_secret_twice(secrets):
    """A list that repeats a secret is a roll-out that went wrong (SC004)."""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(secrets)
    assert raised.value.id == "SC004"


@pytest.mark.parametrize(
    "secret",
    [None, "short-canary", "canary-changeme-0123456789-abcdefghij", ["canary" + NEW] * 2],
    ids=["1", "2", "3", "4"],
)
def test_the_error_helps_and_tells_no_secret(secret):
    """The message shows the command that makes a good secret, and nothing of the bad one (INJ-05)."""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(secret)
    assert "canary" not in str(raised.value)
    if raised.value.id != "SC004":
        assert "secrets.token_urlsafe(48)" in raised.value.fix


def test_the_command_in_the_error_makes_a_good_secret():
    """What the error tells to run gives a secret that is accepted."""
    with pytest.raises(ConfigurationError) as raised:
        Keyring(None)
    command = re.search(r"python -c .*$", raised.value.fix)
    assert command is not None
    made = subprocess.run(
        [sys.executable, *shlex.split(command.group())[1:]], capture_output=True, check=True, text=True
    )
    assert Keyring(made.stdout.strip()).newest


@pytest.mark.parametrize(
    ("secret", "id"), [(None, "SC001"), ("short", "SC002"), ("x" * 40, "SC003"), ([NEW, NEW], "SC004")]
)
async def test_a_bad_secret_stops_the_server(secret, id):
    """The lifespan refuses to start with the error's id; without one the first request raises it."""
    app = SCsessionMiddleware(obey, secret_key=secret, store="memory://")
    with pytest.raises(asgi.LifespanFailed, match=id):
        async with asgi.lifespan(app):
            pass
    with pytest.raises(ConfigurationError, match=id):
        await asgi.request(app)


def test_repr_of_a_keyring_tells_no_secret():
    """A keyring in a traceback opens nothing."""
    assert NEW not in repr(Keyring([NEW, OLD]))


# -- derived keys --------------------------------------------------------------------------------------------------


def test_every_purpose_has_a_key_of_its_own():
    """The same input gives other bytes for every purpose, label, key and audience (ASVS-9.2.2)."""
    ring = Keyring([NEW, OLD])
    old = Keyring(OLD).newest
    derived = [
        ring.successor(ring.newest, "a", "x"),
        ring.successor(ring.newest, "b", "x"),
        ring.successor(old, "a", "x"),
    ]
    derived += [ring.mark(ring.newest, "a", "x"), ring.mark(old, "a", "x")]
    derived += [
        signers[key].get_signature("x")
        for signers in (ring.signers("a"), ring.signers("b"))
        for key in (ring.newest, old)
    ]
    assert len(set(derived)) == len(derived)


@settings(deadline=None)
@given(one=st.lists(st.text(max_size=4), max_size=4), two=st.lists(st.text(max_size=4), max_size=4))
def test_lists_of_parts_are_not_run_together(one, two):
    """("ab", "c") and ("a", "bc") give other bytes: nobody can shift a character from one part to the next."""
    ring = Keyring(NEW)
    assert (ring.mark(ring.newest, *["l", *one]) == ring.mark(ring.newest, *["l", *two])) == (one == two)


def test_ids_are_128_random_bits():
    """An id is 22 characters of base64url, and never the same."""
    ids = {new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(unb64(id)) == 16 for id in ids)


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "A A", "AA\n", "+/", "A.", "ä"])
def test_only_canonical_base64_is_read(text):
    """What b64 does not write, unb64 does not read."""
    assert unb64(b64(b"\xfb\xff\x00")) == b"\xfb\xff\x00"
    with pytest.raises(ValueError, match=r"base64|padding|ASCII"):
        unb64(text)


# -- sealing -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(name=st.text(max_size=30), value=st.binary(max_size=300))
def test_what_is_sealed_opens(name, value):
    """Opening gives back the value, and the sealed bytes do not show it."""
    sealer = Keyring(NEW).sealer(RECORD)
    sealed = sealer.seal(name, value)
    assert sealer.open(name, sealed) == value
    assert len(value) < 4 or value not in sealed


@pytest.mark.parametrize(
    ("record", "name"),
    [("s" * 22, "d:a"), (RECORD, "d:b"), (RECORD, "f:a"), (RECORD, ""), (RECORD, "d:a "), ("", "d:a")],
)
def test_a_moved_value_does_not_open(record, name):
    """A value opens only in its record, under its name: who can write to the store cannot shuffle values."""
    ring = Keyring(NEW)
    sealed = ring.sealer(RECORD).seal("d:a", b"admin")
    assert ring.sealer(RECORD).open("d:a", sealed) == b"admin"
    with pytest.raises(Unopened):
        ring.sealer(record).open(name, sealed)


def test_every_changed_bit_and_length_is_noticed():
    """No bit of a sealed value can change, no byte go or come (KEY-11)."""
    sealer = Keyring(NEW).sealer(RECORD)
    sealed = sealer.seal("d:a", b"value")
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :] for at in range(len(sealed)) for bit in range(8)
    ]
    changed += [sealed[:end] for end in range(len(sealed))] + [
        sealed + b"\0",
        b"\0" + sealed,
        b"",
        b"value",
        b"\x00" * 40,
    ]
    for other in changed:
        with pytest.raises(Unopened):
            sealer.open("d:a", other)


@settings(max_examples=300, deadline=None)
@given(junk=st.binary(max_size=80))
def test_junk_does_not_open(junk):
    """Any bytes are Unopened, with or without the version and key id before them (KEY-01, KEY-04)."""
    sealer = Keyring(NEW).sealer(RECORD)
    for sealed in (junk, sealer.seal("n", b"")[:7] + junk):
        with pytest.raises(Unopened):
            sealer.open("n", sealed)


def test_nonces_are_unique():
    """Equal values of one record are sealed differently every time, under a nonce that never repeats (KEY-03)."""
    sealer = Keyring(NEW).sealer(RECORD)
    sealed = [sealer.seal("n", b"same") for _ in range(20_000)]
    assert len({value[7:19] for value in sealed}) == len(sealed)
    assert len(set(sealed)) == len(sealed)


def test_version_and_key_id_stand_in_front_and_are_authenticated():
    """Every sealed value says how and by which key, so that both can change later; neither can be swapped."""
    ring = Keyring([NEW, OLD])
    sealed = ring.sealer(RECORD).seal("n", b"value")
    assert sealed[:7] == b"\x01" + ring.newest.encode()
    old = Keyring(OLD).newest.encode()
    for head in (b"\x00" + sealed[1:7], b"\x02" + sealed[1:7], b"\x01" + old, b"\x01\xff\xff\xff\xff\xff\xff"):
        with pytest.raises(Unopened):
            ring.sealer(RECORD).open("n", head + sealed[7:])


def test_the_newest_key_seals_and_all_open():
    """[new, old] opens what [old] has sealed and seals with new; a key that is gone opens nothing."""
    by_old = Keyring(OLD).sealer(RECORD).seal("n", b"value")
    both = Keyring([NEW, OLD]).sealer(RECORD)
    assert both.open("n", by_old) == b"value"
    by_new = both.seal("n", b"value")
    assert Keyring(NEW).sealer(RECORD).open("n", by_new) == b"value"
    for ring, sealed in ((Keyring(NEW), by_old), (Keyring(OLD), by_new)):
        with pytest.raises(Unopened):
            ring.sealer(RECORD).open("n", sealed)


def test_records_have_keys_of_their_own():
    """Another record's key does not even open under the right name: random nonces stay far from their limit."""
    ring = Keyring(NEW)
    one, two = (ring.sealer(id).seal("n", b"x") for id in ("a" * 22, "b" * 22))
    assert one[:7] == two[:7]
    for key in (NEW.encode()[:32], b"\0" * 32):
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(one[7:19], one[19:], one[:7] + b"n")


# -- over HTTP: fields that were tampered with ---------------------------------------------------------------------


async def tampered(how) -> None:
    """ada's session after `how(world, id, row, other id)`: nobody reads it, and what is stored stays as it is."""
    world = World()
    ada, bob = world.browser(), world.browser()
    for browser, owner in ((ada, "ada"), (bob, "bob")):
        await do(browser, put("user_id", owner))
        await do(browser, lambda session: session.update(a="plain", b="admin"))
    id, other = world.token(ada).id, world.token(bob).id
    await world.store.inner.update(id, Patch(put=how(await world.store.row(id), await world.store.row(other))))
    before = await world.store.row(id)
    rejected = heard("session_rejected")
    response = await ask(ada, lambda session: [session.owner, dict(session)])
    assert (response.json(), ours(response)) == ([None, {}], [])
    assert [(event.reason, event.session_id) for event in rejected] == [("unreadable", id)]
    (line,) = ours(await ask(ada, put("a", "mine")))
    assert id not in line
    assert await world.store.row(id) == before
    assert await do(ada, lambda session: [session.owner, dict(session)]) == [None, {"a": "mine"}]
    assert await do(bob, lambda session: session["b"]) == "admin"


@pytest.mark.parametrize(
    "how",
    [
        lambda row, _: {"d:a": row.fields["d:b"], "d:b": row.fields["d:a"]},
        lambda _, other: {"d:a": other.fields["d:a"]},
        lambda _, other: {"d:user_id": other.fields["d:user_id"]},
        lambda row, _: {"d:role": row.fields["d:b"]},
        lambda *_: {"d:a": b"plain"},
        lambda *_: {"d:a": b""},
        lambda row, _: {"d:a": row.fields["d:a"][:-1]},
        lambda row, _: {"f:x": row.fields["d:a"]},
    ],
    ids=[
        "swapped",
        "from another record",
        "owner from another record",
        "renamed",
        "in clear",
        "empty",
        "cut",
        "as a flash",
    ],
)
async def test_a_field_that_does_not_open_makes_the_request_anonymous(how):
    """Whatever was done to a stored value, it is never read, never overwritten, and no endless 500 (SER-02, KEY-01)."""
    await tampered(how)

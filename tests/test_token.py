"""The cookie's text: nothing but what a key of ours has signed, exactly as it was written, for this very cookie."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import BadSignature, Signer, TimestampSigner

from scsession_secure.crypto import Keyring, b64, digest
from scsession_secure.token import Token, TokenReader
from tests.identity import NAME, NEW, OLD, World, ask, do, heard, ours, put, renew, send, value_of, whoami

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def reader(*secrets: str, name: str = NAME) -> TokenReader:
    return TokenReader(Keyring(list(secrets or (NEW,))), name)


def token(generation: int = 0, *, key: str = NEW) -> Token:
    return Token(Keyring(key).newest, b64(b"i" * 16), generation, b64(b"v" * 32))


def text(generation: int = 0) -> str:
    issued = reader().issue(token(generation))
    assert issued is not None
    return issued


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


# -- what it is ----------------------------------------------------------------------------------------------------


async def test_shape():
    """key id . id of 128 bits . generation . verifier of 256 bits . signature; ids and verifiers never repeat
    (ASVS-7.2.3, NIST-5.1-d, WSTG-SESS-01e)."""
    world = World()
    seen = []
    for _ in range(50):
        (line,) = ours(await ask(world.browser(), put("x", 1)))
        _, id, generation, verifier, signature = value_of(line).split(".")
        assert (len(decoded(id)), generation, len(decoded(verifier)), len(decoded(signature))) == (16, "0", 32, 32)
        seen += [id, verifier]
    assert len(set(seen)) == 100


async def test_the_cookie_says_nothing_about_its_owner():
    """Decoded in every layer, the cookie has no data and no owner (SMCS-04)."""
    world = World()

    def act(session):
        session.login("canary-owner")
        session["x"] = "canary-value"

    (line,) = ours(await ask(world.browser(), act))
    assert b"canary" not in b"".join(decoded(part) for part in value_of(line).split(".") if part != "0")
    assert "canary" not in line


async def test_the_store_has_nothing_that_opens():
    """No verifier, signature or value in clear is anywhere in the store, only the verifier's hash (FIX-06)."""
    world = World()
    browser = world.browser()

    def act(session):
        session.login("ada")
        session["x"] = "canary-value"

    await do(browser, act)
    for generation in range(3):
        _, id, number, verifier, signature = browser.cookies[NAME].split(".")
        assert int(number) == generation
        row = await world.store.row(id)
        dump = b"".join(
            [*row.fields.values(), *(name.encode() for name in row.fields), id.encode(), repr(row).encode()]
        )
        for secret in (verifier.encode(), decoded(verifier), signature.encode(), decoded(signature), b"canary-value"):
            assert secret not in dump
        assert digest(verifier.encode()) in dump
        await renew(world, browser)


@pytest.mark.parametrize("generation", [0, 1, 9, 10, 12345, 999_999_999])
def test_what_is_issued_is_read(generation):
    """Reading gives back what was issued."""
    assert reader().read(text(generation).encode()) == token(generation)


def test_a_worker_without_the_key_issues_nothing():
    """Rather no cookie than one signed by another key than the record names."""
    assert reader(OLD).issue(token()) is None


def test_repr_hides_the_verifier():
    """A token in a traceback opens nothing (INJ-05)."""
    assert token().verifier not in repr(token())


# -- what is refused -----------------------------------------------------------------------------------------------


async def refused(world: World, values) -> None:
    """Each of these values is nobody, costs no store trip, is announced as malformed, and the cookie stays."""
    rejected = heard("session_rejected")
    world.store.calls.clear()
    for value in values:
        response = await send(world, NAME.encode() + b"=" + value, whoami)
        assert (response.status, response.json(), ours(response)) == (200, None, []), value
    assert world.store.calls == []
    assert {event.reason for event in rejected} == {"malformed"}
    assert len(rejected) == len(values)


async def valid(world: World) -> bytes:
    browser = world.browser()
    await do(browser, lambda session: session.login("ada"))
    value = browser.cookies[NAME].encode()
    assert (await send(world, NAME.encode() + b"=" + value, whoami)).json() == "ada"
    return value


async def test_every_flipped_bit_is_refused():
    """Each of the token's bits matters (KEY-11)."""
    world = World()
    value = await valid(world)
    flipped = [
        value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :] for at in range(len(value)) for bit in range(8)
    ]
    assert len(flipped) == 8 * len(value)
    await refused(world, flipped)


async def test_every_truncation_and_extension_is_refused():
    """No part of a token is a token, and nothing may stand before or behind one (KEY-11, FIX-10)."""
    world = World()
    value = await valid(world)
    cut = [value[:end] for end in range(len(value))] + [value[start:] for start in range(1, len(value))]
    bytes_ = [bytes([n]) for n in range(256)]
    # SP and HTAB are no part of a value, and `;` ends it: RFC 6265bis section 5.6.
    longer = [value + byte for byte in bytes_ if byte not in b" \t;"] + [
        byte + value for byte in bytes_ if byte not in b" \t;"
    ]
    longer += [value + b"=", value + b"==", value + b"." + value, value + b"x" * 60_000, b"x" * 60_000]
    await refused(world, cut + longer)


async def test_every_cut_out_and_doubled_piece_is_refused():
    """Parts of the right kind in the wrong number or order are no token."""
    world = World()
    parts = (await valid(world)).split(b".")
    wrong = [parts[:at] + parts[at + 1 :] for at in range(5)] + [
        parts[:at] + parts[at : at + 1] + parts[at:] for at in range(5)
    ]
    wrong += [[*parts[:at], b"", *parts[at + 1 :]] for at in range(5)] + [parts[::-1]]
    await refused(world, [b".".join(some) for some in wrong])


@pytest.mark.parametrize(
    "value", [b"", b"null", b"undefined", b"''", b'""', b"None", b"0", b".", b"....", b"*", b"' OR 1=1--"], ids=repr
)
async def test_sentinels_are_refused(value):
    """What a broken client sends is nobody, and no question to the store (FIX-08, ASVS-1.2.4)."""
    await refused(World(), [value])


def spare_twins(value: str) -> list[str]:
    """The other texts whose last character stands for the same bytes: base64 of 32 bytes leaves two bits unused."""
    last = ALPHABET.index(value[-1])
    assert last % 4 == 0
    return [value[:-1] + ALPHABET[last + bits] for bits in (1, 2, 3)]


class Lax(TokenReader):
    """Mutant: asks itsdangerous, which compares bytes."""

    def read(self, raw):
        try:
            key_id, id, generation, verifier = (
                Signer(
                    next(iter(self._signers.values())).secret_key, key_derivation="none", digest_method=hashlib.sha256
                )
                .unsign(raw)
                .decode()
                .split(".")
            )
        except BadSignature:
            return None
        return Token(key_id, id, int(generation), verifier)


def test_the_last_character_is_exact():
    """A signature has one text: its twins, and padding, are refused; the mutant takes them (KEY-11)."""
    issued = text()
    twins = [*spare_twins(issued), issued + "="]
    assert [reader().read(twin.encode()) for twin in twins] == [None] * 4
    lax = Lax(Keyring(NEW), NAME)
    assert [lax.read(twin.encode()) for twin in twins] == [token()] * 4


def signed(message: str, *, secret: str = NEW, name: str = NAME) -> bytes:
    """Any text under a real signature of ours."""
    ring = Keyring(secret)
    return ring.signers(name)[ring.newest].sign(message.encode())


@pytest.mark.parametrize(
    "generation", ["00", "01", "-1", "+1", "1_0", " 1", "1 ", "1.", "", "x", "1e3", "\uff11", "1000000000", "9" * 5000]
)
def test_a_generation_has_one_text(generation):
    """Even under our own signature a number that we would not write is refused (KEY-04)."""
    made = token()
    assert reader().read(signed(f"{made.key_id}.{made.id}.0.{made.verifier}")) == made
    assert reader().read(signed(f"{made.key_id}.{made.id}.{generation}.{made.verifier}")) is None


@settings(max_examples=500, deadline=None)
@given(raw=st.one_of(st.binary(max_size=200), st.text(ALPHABET + ".=", max_size=160).map(str.encode)))
def test_reading_never_raises(raw):
    """Any bytes are a token of ours or None (KEY-04)."""
    assert reader().read(raw) is None


async def test_a_cookie_that_is_the_record_is_as_strict():
    """On cookie:// too every flipped bit, truncation and extension is nobody, and never an error (KEY-01, KEY-11)."""
    world = World(store="cookie://?unsafe_ended=memory")
    value = await valid(world)
    wrong = [
        value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :] for at in range(len(value)) for bit in range(8)
    ]
    wrong += [value[:end] for end in range(len(value))] + [value + bytes([n]) for n in range(256) if n not in b" \t;"]
    for other in wrong:
        response = await send(world, NAME.encode() + b"=" + other, whoami)
        assert (response.status, response.json(), ours(response)) == (200, None, []), other


# -- made for something else ---------------------------------------------------------------------------------------


def test_another_cookie_s_token_is_refused():
    """The signature is bound to the cookie's name (KEY-02, ASVS-9.2.3)."""
    for name in ("__Host-other", "session", "__Secure-session", "__Host-Session"):
        assert reader(name=name).read(text().encode()) is None


async def test_two_applications_with_one_secret_do_not_share_sessions():
    """Same secret, same store, another cookie name: a cookie that was moved over opens nothing, at no store trip."""
    world = World()
    other = World(store=world.store, cookie_name="other")
    value = await valid(world)
    world.store.calls.clear()
    assert (await send(other, b"__Host-other=" + value, whoami)).json() is None
    assert world.store.calls == []


def test_another_secret_s_token_is_refused():
    """Another secret signs nothing for us, not even under our key's id."""
    made = token()
    assert reader(OLD).read(text().encode()) is None
    assert reader().read(signed(f"{made.key_id}.{made.id}.0.{made.verifier}", secret=OLD)) is None


def test_another_purpose_s_signature_is_refused():
    """What the application signs with the same secret, in whatever common way, is no token (KEY-02, ASVS-9.2.2)."""
    made = token()
    message = f"{made.key_id}.{made.id}.0.{made.verifier}"
    ring = Keyring(NEW)
    signers = [
        Signer(NEW), Signer(NEW, digest_method=hashlib.sha256), TimestampSigner(NEW),
        Signer(NEW, salt=NAME, digest_method=hashlib.sha256),
        Signer(NEW, key_derivation="none", digest_method=hashlib.sha256),
    ]  # fmt: skip
    for signer in signers:
        assert reader().read(signer.sign(message.encode())) is None
    for label in ("seal", "derive", "mark", f"sign {NAME}", "renewal", "rotation id", "rotation verifier"):
        for derived in (ring.successor(ring.newest, label, message), ring.mark(ring.newest, label, message)):
            assert reader().read(f"{message}.{b64(derived)}".encode()) is None


# -- successors ----------------------------------------------------------------------------------------------------


def test_the_next_generation_is_derived():
    """Every worker that has the key gives the same successor; another key, verifier, id or generation another one."""
    one, two = reader(OLD, NEW), reader(NEW, OLD)
    old = Keyring(OLD).newest
    given_ = token(3, key=OLD)
    successor = one.next_generation(given_, old, signed_by=old)
    assert successor == two.next_generation(given_, old, signed_by=old)
    assert (successor.id, successor.generation) == (given_.id, 4)
    assert len(decoded(successor.verifier)) == 32
    others = [
        one.next_generation(given_, Keyring(NEW).newest, signed_by=old),
        one.next_generation(Token(old, given_.id, 3, b64(b"w" * 32)), old, signed_by=old),
        one.next_generation(Token(old, b64(b"j" * 16), 3, given_.verifier), old, signed_by=old),
        one.next_generation(Token(old, given_.id, 4, given_.verifier), old, signed_by=old),
        successor,
    ]
    assert len({other.verifier for other in others}) == 5


def test_the_next_record_has_one_name_and_a_verifier_for_each_purpose():
    """Whoever races for what follows a cookie wants the same id; only who wants the same gets the same verifier."""
    first, again, other = (
        reader().next_record(token(), purpose) for purpose in ("login ada", "login ada", "login bob")
    )
    assert first == again
    assert (first.id, first.generation) == (other.id, 0)
    assert first.verifier != other.verifier
    assert first.id != token().id
    assert len(decoded(first.id)) == 16
    assert reader(OLD).next_record(token(), "login ada").id != first.id


def test_nothing_derived_can_be_foreseen_without_the_key():
    """A successor is no plain hash of what the cookie's holder knows."""
    made = token()
    successor = decoded(reader().next_generation(made, made.key_id, signed_by=made.key_id).verifier)
    known = [made.verifier.encode(), decoded(made.verifier), made.id.encode(), text().encode()]
    assert successor not in {digest(part) for part in known} | {digest(a + b) for a in known for b in known}

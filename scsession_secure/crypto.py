"""Keys: the only module that touches them.

Every secret is stretched by HKDF-SHA256 into one key per purpose (ASVS 11.2.2, 9.2.2), so that a value minted for one
purpose means nothing for another. The first secret signs and seals, all of them open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, Protocol, runtime_checkable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import Signer

from .errors import ConfigurationError

__all__ = [
    "KEY_ID_CHARS",
    "HELP",
    "Keyring",
    "Sealer",
    "Unopened",
    "b64",
    "digest",
    "each_secret",
    "key_of",
    "new_id",
    "secret_bytes",
    "unb64",
]

#: Length of a key id in a token: 36 bits, enough to tell a handful of keys apart, useless to guess from.
KEY_ID_CHARS: Final = 6
_NONCE_BYTES: Final = 12
_SEALERS: Final = 1024
_SEAL_VERSION: Final = b"\x01"
_MIN_SECRET_CHARS: Final = 32
_MIN_DISTINCT_CHARS: Final = 10
_PLACEHOLDERS: Final = (
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "your-secret",
    "your_secret",
    "example",
    "password",
)

HELP: Final = 'Make one with: python -c "import secrets; print(secrets.token_urlsafe(48))"'


class Unopened(Exception):
    """A sealed value does not open: another key, another record, or not as it was written. Deliberately says no
    more."""


@runtime_checkable
class _HasSecretValue(Protocol):
    def get_secret_value(self) -> str | bytes: ...


def b64(data: bytes) -> str:
    """URL-safe base64 without padding (RFC 4648 section 5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64(text: str) -> bytes:
    """Raises ValueError for anything that `b64` does not write."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text:
        raise ValueError("not canonical base64")
    return data


def new_id() -> str:
    """128 random bits (ASVS 7.2.3): the public name of a record."""
    return b64(os.urandom(16))


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def key_of(sealed: bytes) -> str:
    """The id of the key that a value says it was sealed with."""
    return sealed[1 : 1 + KEY_ID_CHARS].decode("ascii", "replace")


class Sealer:
    """Seals and opens the values of one record.

    The record's own key is derived from its id, and a value's name is authenticated with it: a value copied to another
    record or another name does not open. A key per record also keeps random nonces far from their limit of 2^32
    messages (ASVS 11.3.4).
    """

    __slots__ = ("_aead", "_newest", "_open_with")

    def __init__(self, key_id: str, key: bytes, open_with: Callable[[str], AESGCM | None]) -> None:
        self._newest = _SEAL_VERSION + key_id.encode("ascii")
        self._aead = AESGCM(key)
        self._open_with = open_with

    def seal(self, name: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return self._newest + nonce + self._aead.encrypt(nonce, value, self._newest + name.encode("utf-8"))

    def open(self, name: str, sealed: bytes) -> bytes:
        """Raises Unopened."""
        head, body = sealed[: 1 + KEY_ID_CHARS], sealed[1 + KEY_ID_CHARS :]
        aead = self._aead if head == self._newest else self._older(head)
        try:
            return aead.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], head + name.encode("utf-8"))
        except (InvalidTag, ValueError):
            raise Unopened from None

    def _older(self, head: bytes) -> AESGCM:
        if head[:1] != _SEAL_VERSION:
            raise Unopened
        aead = self._open_with(head[1:].decode("ascii", "replace"))
        if aead is None:
            raise Unopened
        return aead


class Keyring:
    """All secrets, newest first, as derived keys.

    Raises ConfigurationError (SC001 to SC004) for a secret that is missing, short, a placeholder or given twice.
    """

    def __init__(self, secrets: object) -> None:
        masters = [_checked(secret) for secret in each_secret(secrets)]
        if not masters:
            raise ConfigurationError("SC001", "secret_key is empty.", HELP)
        self._masters = {b64(_derive(master, "key id"))[:KEY_ID_CHARS]: master for master in masters}
        if len(self._masters) != len(masters):
            raise ConfigurationError(
                "SC004", "secret_key lists the same secret twice.", "List each secret once, newest first."
            )
        #: The id of the newest key: it signs and seals.
        self.newest = next(iter(self._masters))
        self._seal_keys = self._keys("seal")
        self._derive_keys = self._keys("derive")
        self._mark_keys = self._keys("mark")
        #: The sealer of a record. Deriving its key costs as much as opening three values: those in use are remembered.
        self.sealer = lru_cache(maxsize=_SEALERS)(self._sealer)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._masters

    def __iter__(self) -> Iterator[str]:
        """The key ids, newest first."""
        return iter(self._masters)

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._masters)}>"

    def signers(self, audience: str) -> dict[str, Signer]:
        """One signer per key id, bound to an audience: the cookie's name (ASVS 9.2.3).

        SHA-256 and a key that is derived once: itsdangerous' own defaults are SHA-1 and a derivation per call.
        """
        return {
            key_id: Signer(
                self._derived(f"sign {audience}", key_id), key_derivation="none", digest_method=hashlib.sha256
            )
            for key_id in self._masters
        }

    def _sealer(self, record_id: str) -> Sealer:
        salt = record_id.encode("utf-8")

        def older(key_id: str) -> AESGCM | None:
            key = self._seal_keys.get(key_id)
            return None if key is None else AESGCM(hmac.digest(key, salt, "sha256"))

        return Sealer(self.newest, hmac.digest(self._seal_keys[self.newest], salt, "sha256"), older)

    def successor(self, key_id: str, label: str, *parts: str | bytes) -> bytes:
        """32 bytes that only a holder of the key can foresee, the same for every worker: names and verifiers of what
        follows a cookie. A key that is no longer listed gives way to the newest."""
        key = self._derive_keys.get(key_id) or self._derive_keys[self.newest]
        return hmac.digest(key, _joined(label, *parts), "sha256")

    def mark(self, key_id: str, label: str, *parts: str | bytes) -> bytes:
        """A keyed hash for what must be compared but not read: client facts, addresses. Raises KeyError for a key id
        that is not listed."""
        return hmac.digest(self._mark_keys[key_id], _joined(label, *parts), "sha256")

    def _keys(self, purpose: str) -> dict[str, bytes]:
        return {key_id: self._derived(purpose, key_id) for key_id in self._masters}

    def _derived(self, purpose: str, key_id: str) -> bytes:
        return _derive(self._masters[key_id], purpose)


def _joined(*parts: str | bytes) -> bytes:
    """Length-prefixed, so that no two lists of parts give the same bytes."""
    raw = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in raw)


def _derive(master: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"scsession_secure {purpose}".encode()).derive(master)


def each_secret(secrets: object) -> Iterable[object]:
    """One secret, or several, as they are given."""
    return secrets if isinstance(secrets, list | tuple) else (secrets,)


def secret_bytes(secret: Any) -> bytes | None:
    """The bytes of one secret, None if it is of no known type: only those are converted. Starlette's Secret shows
    itself through str(), pydantic's SecretStr hides itself there."""
    from starlette.datastructures import Secret

    if isinstance(secret, _HasSecretValue):
        secret = secret.get_secret_value()
    elif isinstance(secret, Secret):
        secret = str(secret)
    if isinstance(secret, str):
        secret = secret.encode("utf-8")
    return secret if isinstance(secret, bytes) else None


def _checked(given: object) -> bytes:
    secret = secret_bytes(given)
    if secret is None:
        raise ConfigurationError(
            "SC001",
            f"secret_key is missing or of an unknown type ({type(given).__name__}).",
            f"Pass str, bytes, Starlette's Secret, an object with get_secret_value(), or a list of these. {HELP}",
        )
    if len(secret) < _MIN_SECRET_CHARS:
        raise ConfigurationError(
            "SC002", f"secret_key has {len(secret)} characters, at least {_MIN_SECRET_CHARS} are needed.", HELP
        )
    lowered = secret.lower()
    if len(set(secret)) < _MIN_DISTINCT_CHARS or any(word.encode() in lowered for word in _PLACEHOLDERS):
        raise ConfigurationError("SC003", "secret_key looks like a placeholder.", HELP)
    return secret

"""The cookie's text: `key id . id . generation . verifier . signature`."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from itsdangerous import Signer

from .crypto import KEY_ID_CHARS, Keyring, b64, digest

__all__ = ["Token", "TokenReader"]

_ID: Final = "[A-Za-z0-9_-]{22}"
_SHAPE: Final = re.compile(
    rb"([A-Za-z0-9_-]{%d})\.(%s)\.(0|[1-9][0-9]{0,8})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})"
    % (KEY_ID_CHARS, _ID.encode())
)


@dataclass(frozen=True, slots=True)
class Token:
    """What a cookie says. `verifier` is a secret; `id` is public and opens nothing."""

    key_id: str
    id: str
    generation: int
    verifier: str = field(repr=False)

    @property
    def verifier_hash(self) -> bytes:
        return digest(self.verifier.encode("ascii"))


class TokenReader:
    """Signs and reads tokens for one cookie name."""

    def __init__(self, keyring: Keyring, cookie_name: str) -> None:
        self._keyring = keyring
        self._signers: dict[str, Signer] = keyring.signers(cookie_name)

    def issue(self, token: Token) -> str | None:
        """The cookie's value; None if this worker does not have the key that signs this generation. Signing with the
        record's key, not the newest, makes every worker write the same text."""
        signer = self._signers.get(token.key_id)
        if signer is None:
            return None
        text = f"{token.key_id}.{token.id}.{token.generation}.{token.verifier}"
        return f"{text}.{signer.get_signature(text).decode('ascii')}"

    def read(self, raw: bytes) -> Token | None:
        """The token, if the shape is exact and a key of ours signed it. One HMAC at most, no decoding of what is not
        verified. The signature's text is compared, not its bytes: base64 has several texts for the same bytes."""
        match = _SHAPE.fullmatch(raw)
        if match is None:
            return None
        key_id, id, generation, verifier, signature = match.groups()
        signer = self._signers.get(key_id.decode("ascii"))
        if signer is None or not hmac.compare_digest(signer.get_signature(raw[: match.start(5) - 1]), signature):
            return None
        return Token(key_id.decode("ascii"), id.decode("ascii"), int(generation), verifier.decode("ascii"))

    def next_generation(self, token: Token, key_id: str, *, signed_by: str) -> Token:
        """The successor of a verifier on the same record: derived, so that parallel and repeated requests get the same.

        `key_id` derives it (the record's), `signed_by` signs it (the record's next one).
        """
        verifier = self._keyring.successor(key_id, "renewal", token.id, str(token.generation + 1), token.verifier)
        return Token(signed_by, token.id, token.generation + 1, b64(verifier))

    def next_record(self, token: Token, purpose: str = "") -> Token:
        """The first token of the record that follows this one at a rotation.

        The id follows from the record's alone: a store that never overwrites then allows one successor, whoever asks.
        The verifier follows from the presented one and the purpose (whose login): two requests that
        ask for the same get the same cookie, and nobody else can foresee it.
        """
        id = self._keyring.successor(token.key_id, "rotation id", token.id)[:16]
        verifier = self._keyring.successor(token.key_id, "rotation verifier", token.id, token.verifier, purpose)
        return Token(self._keyring.newest, b64(id), 0, b64(verifier))

"""The device cookie: by it the login throttle knows a browser in which somebody has logged in to an account before
(OWASP, "Slow Down Online Guessing Attacks with Device Cookies").

It opens nothing. It holds a random id of the device, and for each of its last accounts a keyed hash that is bound to
that id: no names, and nothing by which the marks of two devices could be compared.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .cookies import CookieWriter, candidates
from .crypto import KEY_ID_CHARS, Keyring, b64, new_id

if TYPE_CHECKING:
    from .headers import Header
    from .policy import Policy

__all__ = ["Device", "DeviceCookie"]

#: Seconds that a device stays known after the last login in it.
_LIFETIME: Final = 180 * 86_400
#: The accounts of a family's computer. One more takes the place of the one that was longest away.
_MAX_MARKS: Final = 8
#: The id of its key, and 128 bits.
_MARK: Final = "[A-Za-z0-9_-]{28}"
_SHAPE: Final = re.compile(
    rb"([A-Za-z0-9_-]{%d})\.([A-Za-z0-9_-]{22})\.(0|[1-9][0-9]{0,11})\.((?:%s){1,%d})\.([A-Za-z0-9_-]{43})"
    % (KEY_ID_CHARS, _MARK.encode(), _MAX_MARKS)
)


@dataclass(frozen=True, slots=True)
class Device:
    """A device, as one account sees it.

    known   whether somebody has logged in to the account there
    others  marks of other accounts, the latest first
    """

    id: str
    known: bool
    others: tuple[str, ...]


class DeviceCookie:
    """Reads and renders the device cookie of one application. Its attributes are those of the session's cookie."""

    def __init__(self, policy: Policy, keyring: Keyring) -> None:
        self._keyring = keyring
        self._writer = CookieWriter(policy, "_device")
        self.name = self._writer.name
        # No cookie's name has a space: nothing that is signed for this is ever taken for a session (ASVS 9.2.3).
        self._signers = keyring.signers(f"device {self.name}")

    def read(self, headers: Iterable[Header], account: str, now: float) -> Device:
        """The device that a request comes from: by its cookie, if we signed it and not too long ago, or a new one."""
        for raw in candidates(headers, self._writer.raw_name):
            match = _SHAPE.fullmatch(raw)
            if match is not None and self._is_ours(raw, match) and now - int(match[3]) <= _LIFETIME:
                id = match[2].decode("ascii")
                marks = re.findall(_MARK, match[4].decode("ascii"))
                others = tuple(mark for mark in marks if not self._is_mark(mark, id, account))
                return Device(id, len(others) < len(marks), others)
        return Device(new_id(), False, ())

    def setting(self, device: Device, account: str, now: float) -> str:
        """The Set-Cookie line that makes the account known in this device."""
        key_id = self._keyring.newest
        marks = "".join([self._mark(key_id, device.id, account), *device.others][:_MAX_MARKS])
        text = f"{key_id}.{device.id}.{int(now)}.{marks}"
        signature = self._signers[key_id].get_signature(text).decode("ascii")
        return self._writer.setting(f"{text}.{signature}", seconds_left=_LIFETIME)

    def _is_ours(self, raw: bytes, match: re.Match[bytes]) -> bool:
        """The signature's text is compared, not its bytes: base64 has several texts for the same bytes."""
        signer = self._signers.get(match[1].decode("ascii"))
        return signer is not None and hmac.compare_digest(signer.get_signature(raw[: match.start(5) - 1]), match[5])

    def _is_mark(self, mark: str, id: str, account: str) -> bool:
        """Whether a mark is this account's. One whose key is gone is nobody's."""
        key_id = mark[:KEY_ID_CHARS]
        return key_id in self._keyring and hmac.compare_digest(self._mark(key_id, id, account), mark)

    def _mark(self, key_id: str, id: str, account: str) -> str:
        return key_id + b64(self._keyring.mark(key_id, "device", id, account)[:16])

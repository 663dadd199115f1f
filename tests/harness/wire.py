"""What the drivers have in common: messages, their checks, and gates. Use it through `asgi`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.types import Message, Scope

Headers = Mapping[str, str | bytes] | Iterable[tuple[str | bytes, str | bytes]]
Hook = Callable[[Message], Awaitable[None]]

#: An address of TEST-NET-3, which belongs to nobody.
CLIENT = ("203.0.113.7", 40000)
#: Seconds before a driver gives up on an application: a hang is a failure with a name.
PATIENCE = 20.0

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class ProtocolError(AssertionError):
    """The application broke the ASGI specification, or sent a header that could be misread."""


class LifespanFailed(Exception):
    """The application answered `lifespan.startup.failed` or `lifespan.shutdown.failed`."""


class Gate:
    """A point where something waits until the test opens it. It stays open."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def wait(self) -> None:
        """For a handler or a hook: say that this point was reached, and wait there."""
        self._reached.set()
        await self._open.wait()

    def at(self, type: str) -> Hook:
        """A hook that waits at the messages of one type."""

        async def hook(message: Message) -> None:
            if message["type"] == type:
                await self.wait()

        return hook

    async def reached(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._reached.wait()

    def open(self) -> None:
        self._open.set()


@dataclass(slots=True)
class Response:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    #: What escaped from the application, when the test asked not to have it raised.
    error: BaseException | None = None
    #: Every message that the application sent, in order.
    messages: list[Message] = field(default_factory=list, repr=False)

    def all(self, name: str) -> list[str]:
        """The values of every line with this name."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    def header(self, name: str) -> str | None:
        """The value of the only line with this name, or None. Two such lines are an error."""
        values = self.all(name)
        if len(values) > 1:
            raise ProtocolError(f"{len(values)} lines of {name}: {values}")
        return values[0] if values else None

    @property
    def set_cookies(self) -> list[str]:
        return self.all("set-cookie")

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def check_headers(message: Message) -> list[tuple[bytes, bytes]]:
    """The headers of a message, if every one is what a server would send unchanged."""
    headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ProtocolError(f"not a lower-case header name: {name!r}")
        if _CONTROL.search(value):
            raise ProtocolError(f"control character in header {name!r}: {value!r}")
        if value != value.strip(b" \t"):
            raise ProtocolError(f"space around the value of {name!r}: {value!r}")
    return headers


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    encode = lambda text: text if isinstance(text, bytes) else text.encode("latin-1")  # noqa: E731 - used on this line and the next
    return [(encode(name).lower(), encode(value)) for name, value in pairs]


def make_scope(  # every part of a request that some test changes
    type: str,
    target: str,
    *,
    scheme: str,
    host: str,
    headers: Headers,
    cookies: Mapping[str, str] | None,
    client: tuple[str, int] | None,
    root_path: str,
    state: dict[str, Any] | None,
    extra: Mapping[str, Any] | None,
) -> Scope:
    parts = urlsplit(target)
    raw = _raw(headers)
    if not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", host.encode()))
    if cookies:
        raw.append((b"cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()).encode("latin-1")))
    name, _, port = host.partition(":")
    scope: Scope = {
        "type": type,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": root_path,
        "headers": raw,
        "client": client,
        "server": (name, int(port or (443 if scheme in {"https", "wss"} else 80))),
        "extensions": {},
    }
    if state is not None:
        scope["state"] = state.copy()
    scope.update(extra or {})
    return scope


def check_order(sent: list[Message], message: Message, start: str, body: str) -> None:
    kind = message["type"]
    if kind not in {start, body}:
        raise ProtocolError(f"unknown message: {message}")
    if (kind == start) != (not any(earlier["type"] == start for earlier in sent)):
        raise ProtocolError(f"out of order: {message}")
    if sent and sent[-1]["type"] == body and not sent[-1].get("more_body", False):
        raise ProtocolError(f"sent after the end of the response: {message}")


def response_of(sent: list[Message], error: BaseException | None) -> Response:
    if not sent:
        return Response(500, [], error=error)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Response(int(sent[0]["status"]), check_headers(sent[0]), body, error, sent)


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE):
        await task


async def quietly(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])

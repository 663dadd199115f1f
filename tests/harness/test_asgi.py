from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from . import asgi


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse({"method": request.method, "url": str(request.url), "body": body.decode(), **request.cookies})


async def talk(socket: WebSocket) -> None:
    if "no" in socket.query_params:
        await socket.close(4001, "no")
        return
    if "deny" in socket.query_params:
        await socket.send_denial_response(PlainTextResponse("denied", 418))
        return
    await socket.accept(headers=[(b"set-cookie", b"a=1")])
    await socket.send_text(await socket.receive_text())
    await socket.close(1008)


app = Starlette(routes=[Route("/echo", echo, methods=["GET", "POST"]), WebSocketRoute("/ws", talk)])


async def test_a_request_arrives_as_it_was_given():
    response = await asgi.request(app, "POST", "/echo?q=%20", body=[b"a", b"b"], cookies={"k": "v"})
    assert response.status == 200
    assert response.json() == {"method": "POST", "url": "https://shop.test/echo?q=%20", "body": "ab", "k": "v"}


@pytest.mark.parametrize(
    ("name", "value"), [(b"x", b"a\r\nset-cookie: b=c"), (b"x", b"\0"), (b"X", b"a"), (b"x ", b"a"), (b"x", b" a")]
)
async def test_a_header_that_could_be_misread_fails_the_test_even_if_the_application_swallows_it(name, value):
    async def bad(scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(name, value)]})
        except AssertionError:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body"})

    with pytest.raises(asgi.ProtocolError):
        await asgi.request(bad)


async def test_half_a_response_is_an_error():
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    with pytest.raises(asgi.ProtocolError, match="whole response"):
        await asgi.request(half)


async def test_what_escapes_is_raised_or_given():
    async def broken(scope, receive, send):
        raise LookupError("x")

    with pytest.raises(LookupError):
        await asgi.request(broken)
    response = await asgi.request(broken, raises=False)
    assert response.status == 500
    assert isinstance(response.error, LookupError)


async def test_a_gate_holds_a_response_before_it_leaves():
    gate = asgi.Gate()
    task = asyncio.create_task(asgi.request(app, target="/echo", before_send=gate.at("http.response.start")))
    await gate.reached()
    assert not task.done()
    gate.open()
    assert (await task).status == 200


async def test_a_client_that_left_is_a_disconnect():
    gone = asyncio.Event()
    seen = []

    async def slow(scope, receive, send):
        seen.append((await receive())["type"])
        gone.set()
        seen.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    response = await asgi.request(slow, gone=gone)
    assert seen == ["http.request", "http.disconnect"]
    assert response.headers == []


async def test_each_new_loop_is_another_one():
    loops = []

    async def remember(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await PlainTextResponse("")(scope, receive, send)

    for _ in range(2):
        asgi.in_new_loop(lambda: asgi.request(remember))
    assert len({*map(id, loops), id(asyncio.get_running_loop())}) == 3


async def test_a_websocket_talks_and_is_closed():
    async with asgi.websocket(app, "/ws") as ws:
        assert ws.accepted
        assert ws.set_cookies == ["a=1"]
        await ws.send_text("hi")
        assert await ws.receive_text() == "hi"
        assert await ws.closed() == 1008


async def test_a_refused_handshake_says_how():
    async with asgi.websocket(app, "/ws?no=1") as ws:
        assert not ws.accepted
        assert ws.close_code == 4001
        assert ws.refusal is not None
        assert ws.refusal.status == 403
    async with asgi.websocket(app, "/ws?deny=1") as ws:
        assert ws.refusal is not None
        assert (ws.refusal.status, ws.refusal.text) == (418, "denied")


async def test_what_a_websocket_handler_raises_is_raised():
    async def broken(scope, receive, send):
        await receive()
        raise LookupError("x")

    with pytest.raises(LookupError):
        async with asgi.websocket(broken):
            pass


async def test_a_lifespan_starts_ends_and_fails():
    said = []

    def answering(startup: str):
        async def application(scope, receive, send):
            said.append((await receive())["type"])
            scope["state"]["pool"] = 1
            await send({"type": startup, "message": "SC001"})
            if startup.endswith("complete"):
                said.append((await receive())["type"])
                await send({"type": "lifespan.shutdown.complete"})

        return application

    async with asgi.lifespan(answering("lifespan.startup.complete")) as state:
        assert state == {"pool": 1}
    assert said == ["lifespan.startup", "lifespan.shutdown"]
    with pytest.raises(asgi.LifespanFailed, match="SC001"):
        async with asgi.lifespan(answering("lifespan.startup.failed")):
            pass

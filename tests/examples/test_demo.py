"""`python -m examples.shop`, as a process."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import stat
import statistics
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.examples.demo import PATIENCE, Start, start
from tests.harness.servers import free_port, running

__all__ = ["start"]


def register(client: httpx.Client) -> None:
    form = {"name": "ada", "password": "correct horse battery", "next": "/session"}
    response = client.post("/register", data=form)
    assert response.status_code == 303
    assert "Secure" not in response.headers["set-cookie"]  # plain http: Safari would drop it


def test_it_says_where_it_is_and_a_restart_signs_nobody_out(start: Start, tmp_path: Path):
    port = free_port()
    demo = start(PORT=str(port))
    assert demo.address == f"http://localhost:{port}"
    with httpx.Client(base_url=demo.address) as client:
        register(client)
        assert "Signed in as" in client.get("/").text
        assert demo.stop() == 0
        demo = start(PORT=str(port))
        assert demo.address == f"http://localhost:{port}"
        assert "Signed in as" in client.get("/").text
        client.post("/logout")
        form = {"name": "ada", "password": "correct horse battery", "next": "/cart"}
        assert client.post("/login", data=form).headers["location"] == "/cart"
    assert demo.stop(signal.SIGTERM) in {0, -signal.SIGTERM}
    assert demo.lines == [
        f"Shop ready: http://localhost:{port}",
        'The administrator is "admin", with the password in .demo/admin-password.',
        "Stop it with Ctrl+C.",
    ]
    folder = tmp_path / ".demo"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    for secret in ("secret", "admin-password"):
        assert (folder / secret).read_text() not in "\n".join(demo.lines)


def test_the_administrator_is_there_from_the_first_start(start: Start, tmp_path: Path):
    """The password that is in the file opens the administrator's page."""
    demo = start(PORT=str(free_port()))
    with httpx.Client(base_url=demo.address, follow_redirects=True) as client:
        password = (tmp_path / ".demo" / "admin-password").read_text()
        client.post("/login", data={"name": "admin", "password": password})
        assert "Sign everybody out" in client.get("/admin").text


def test_it_is_reachable_by_every_name_of_this_machine(start: Start):
    demo = start(PORT=str(free_port()))
    port = demo.address.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", *(["[::1]"] if has_ipv6() else [])):
        assert httpx.get(f"http://{host}:{port}/").status_code == 200


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_busy_port_is_passed_over(start: Start):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        demo = start(PORT=str(port))
        found = int(demo.address.rpartition(":")[2])
        assert port < found < port + 100
        assert demo.lines[0] == f"Port {port} is busy, so this is {found}."
        assert httpx.get(demo.address).status_code == 200


@pytest.mark.parametrize("port", ["eighty", "0", "70000"])
def test_a_port_that_is_none(start: Start, port: str):
    demo = start(PORT=port)
    assert demo.process.wait(PATIENCE) == 1
    assert demo.ready.wait(PATIENCE)
    assert demo.lines == [f"PORT is {port!r}. It must be a number from 1 to 65535."]


def test_a_given_secret_is_used_and_not_kept(start: Start, tmp_path: Path):
    demo = start(PORT=str(free_port()), SECRET_KEY="7Yk3-QmZr0xVb_Lh9sTn5WcEa1GdJf8PuK2oXi6RtMw")
    assert httpx.get(demo.address).status_code == 200
    assert not (tmp_path / ".demo" / "secret").exists()


def test_a_secret_that_is_too_short_stops_it_with_a_sentence(start: Start):
    demo = start(PORT=str(free_port()), SECRET_KEY="short")
    assert demo.process.wait(PATIENCE) != 0
    assert demo.ready.wait(PATIENCE)
    assert any("SC00" in line for line in demo.lines)


def test_it_stops_at_once_while_somebody_watches_the_events(start: Start):
    demo = start(PORT=str(free_port()))
    with httpx.Client(base_url=demo.address) as client:
        register(client)
        stream = re.search(r'data-stream="([^"]+)"', client.get("/session").text)
        assert stream is not None
        with client.stream("GET", stream[1]) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            client.post("/theme", data={"theme": "dark"})
            received = (line for line in response.iter_lines() if line.startswith("data: "))
            assert '"Written: theme."' in next(received)
            assert demo.stop() == 0
            assert list(received) == []
    assert not any("Traceback" in line for line in demo.lines)


def test_it_stops_at_once_while_somebody_has_a_socket(start: Start):
    """The open page "Live" is told that the server goes, which is no end of its session, and nothing fails."""
    demo = start(PORT=str(free_port()))
    with httpx.Client(base_url=demo.address) as client:
        register(client)
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    address = demo.address.replace("http", "ws") + "/account/live"
    with connect(address, additional_headers={"cookie": cookies}) as socket:
        assert "You signed in." in socket.recv(PATIENCE)
        assert demo.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            list(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert not any("Traceback" in line for line in demo.lines)


def test_the_way_a_server_runs_it():
    with running("examples.shop.app:app", env={"SECRET_KEY": secrets.token_urlsafe(48)}) as server:
        assert httpx.get(server.url).status_code == 200
        response = httpx.post(f"{server.url}/theme", data={"theme": "dark"})
        assert response.headers["set-cookie"].startswith("__Host-session=")


def test_answers_are_sent_at_once(start: Start):
    """Mutant: a socket without its protocol named gets no TCP_NODELAY, and answers take 40 ms and more."""
    demo = start(PORT=str(free_port()))
    with httpx.Client(base_url=demo.address) as client:
        took = [client.get("/").elapsed.total_seconds() for _ in range(15)]
    assert statistics.median(took) < 0.035

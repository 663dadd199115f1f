from __future__ import annotations

import os

import httpx
import pytest

from .servers import ServerFailed, running, running_many

APP = "tests.harness.served:app"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_answers_and_ends():
    with running(APP, env={"WORD": "x"}) as server:
        facts = httpx.get(server.url).json()
        assert (facts["word"], facts["pid"]) == ("x", server.pid)
        pid = server.pid
    assert not alive(pid)
    assert "Finished server process" in server.log


def test_two_workers_share_an_address_and_end_with_it():
    with running(APP, workers=2) as server:
        pids = {httpx.get(server.url).json()["pid"] for _ in range(50)}
    assert server.port
    assert not any(alive(pid) for pid in pids)


def test_two_servers_share_a_folder_and_one_can_be_killed_and_come_back():
    with running_many(APP, 2) as (one, two):
        before, other = httpx.get(one.url).json(), httpx.get(two.url).json()
        assert before["pid"] != other["pid"]
        assert before["cwd"] == other["cwd"]
        one.kill()
        with pytest.raises(httpx.ConnectError):
            httpx.get(one.url)
        one.start()
        assert httpx.get(one.url).json()["pid"] not in {before["pid"], other["pid"]}


def test_a_server_that_does_not_start_says_why():
    with pytest.raises(ServerFailed) as failed, running("tests.harness.served:failing"):
        pass
    assert failed.value.code == 3
    assert "SC001: no" in failed.value.log

"""examples/quickstart.py, run as its docstring says."""

from __future__ import annotations

import secrets

import httpx
import pytest

from tests.harness.servers import ROOT, ServerFailed, running


def test_it_counts_and_flashes_once():
    with running("examples.quickstart:app", env={"SECRET_KEY": secrets.token_urlsafe(48)}) as server:
        # The cookie is Secure. Browsers and curl keep it on localhost; httpx does not send it over http.
        assert httpx.get(server.url).json() == {"count": 0, "messages": []}
        response = httpx.post(server.url)
        assert (response.status_code, response.headers["location"]) == (303, "/")
        name, _, rest = response.headers["set-cookie"].partition("=")
        assert name == "__Host-session"
        headers = {"cookie": f"{name}={rest.partition(';')[0]}"}
        seen = httpx.get(server.url, headers=headers).json()
        assert seen == {"count": 1, "messages": ["Counted. This message is shown once."]}
        assert httpx.get(server.url, headers=headers).json() == {"count": 1, "messages": []}
        httpx.post(server.url, headers=headers)
        assert httpx.get(server.url, headers=headers).json()["count"] == 2


@pytest.mark.parametrize("app", ["examples.quickstart:app", "examples.hooks:app"])
def test_a_missing_secret_is_said_with_its_remedy(app: str):
    with pytest.raises(ServerFailed) as failed, running(app, env={"SECRET_KEY": ""}):
        pass
    assert "SECRET_KEY is not set" in failed.value.log
    assert "secrets.token_urlsafe" in failed.value.log
    assert "Traceback" not in failed.value.log


def test_it_is_short():
    code = (ROOT / "examples" / "quickstart.py").read_text().splitlines()
    assert len([line for line in code if line.strip()]) <= 25

"""Who may look, and from where: the token, foreign pages, security headers, hosts to serve on."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
from dash import Dash
from flask.testing import FlaskClient

from dashboard import create_app
from dashboard.serving import listen
from store import Store

SECRET = "long and random ✓ &+"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str | None], Dash]]:
    """Make dashboards of an empty store."""
    with Store.open(tmp_path / "lab") as store:
        yield lambda token: create_app(store, token=token)


@pytest.fixture
def guarded(make: Callable[[str | None], Dash]) -> FlaskClient:
    """A client of a dashboard that has a token."""
    return make(SECRET).server.test_client()


ROUTES = ("/", "/runs", "/_dash-layout", "/_dash-dependencies", "/assets/style.css")


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_shown_without_the_token(guarded: FlaskClient, route: str) -> None:
    answers = [
        guarded.get(route),
        guarded.get(route, query_string={"token": SECRET + "x"}),
        guarded.get(route, headers={"Authorization": "Bearer wrong"}),
        guarded.get(route, headers={"Authorization": f"Basic {quote(SECRET)}"}),
        guarded.post("/_dash-update-component", query_string={"token": SECRET}, json={}),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert "needs its token" in answers[0].text


def test_the_token_in_an_address_becomes_a_cookie_and_leaves_the_address(
    guarded: FlaskClient,
) -> None:
    answer = guarded.get("/steer", query_string={"token": SECRET, "prompt": "a b&c"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/steer?prompt=a+b%26c")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and quote(SECRET) not in cookie
    assert guarded.get("/steer?prompt=a").status_code == 200
    assert guarded.get("/_dash-layout").status_code == 200


def test_a_bearer_is_let_in_each_time_and_gets_no_cookie(
    make: Callable[[str | None], Dash],
) -> None:
    client = make("plain-token").server.test_client()
    answer = client.get("/_dash-layout", headers={"Authorization": "bearer plain-token"})
    assert answer.status_code == 200 and "Set-Cookie" not in answer.headers
    assert client.get("/_dash-layout").status_code == 401


def test_two_tokens_use_two_cookies_so_that_two_dashboards_can_be_open(
    make: Callable[[str | None], Dash],
) -> None:
    names = set()
    for token in ("one", "two"):
        cookie = make(token).server.test_client().get("/?token=" + token).headers["Set-Cookie"]
        names.add(cookie.partition("=")[0])
    assert len(names) == 2


def test_without_a_token_only_this_machines_names_are_answered(
    make: Callable[[str | None], Dash],
) -> None:
    client = make(None).server.test_client()
    for host in ("localhost:8050", "127.0.0.1", "[::1]:80"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example:8050"):
        assert client.get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("token", [None, "plain-token"], ids=["open", "token"])
def test_a_page_of_another_site_is_refused(
    make: Callable[[str | None], Dash], token: str | None
) -> None:
    client = make(token).server.test_client()
    own = {"Authorization": f"Bearer {token}", "Host": "localhost:8050"}
    same = client.get("/", headers={**own, "Origin": "http://localhost:8050"})
    assert same.status_code == 200
    for origin in ("http://evil.example", "http://localhost:9999", "null"):
        answer = client.get("/", headers={**own, "Origin": origin})
        assert answer.status_code == 403


@pytest.mark.parametrize("route", ["/", "/_dash-layout", "/assets/style.css", "/nowhere"])
def test_every_answer_carries_its_security_headers(
    make: Callable[[str | None], Dash], route: str
) -> None:
    with make(None).server.test_client().get(route) as answer:
        headers = answer.headers
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert rules["default-src"] == "'self'" and rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in rules["script-src"] and "http" not in " ".join(rules.values())


def test_pages_load_nothing_from_elsewhere(make: Callable[[str | None], Dash]) -> None:
    page = make(None).server.test_client().get("/").text
    links = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(links) > 5
    assert [link for link in links if not link.startswith("/") or link.startswith("//")] == []


def test_an_empty_token_is_refused(make: Callable[[str | None], Dash]) -> None:
    with pytest.raises(ValueError, match="the token is empty"):
        make(" ")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_other_hosts_are_not_served_without_a_token(
    make: Callable[[str | None], Dash], host: str
) -> None:
    with pytest.raises(ValueError, match=f"will not serve on {host} without a token"):
        listen(make(None), host=host, port=0)


def test_with_a_token_every_host_is_served(make: Callable[[str | None], Dash]) -> None:
    server = listen(make(SECRET), host="0.0.0.0", port=0)
    server.server_close()
    assert server.server_address[0] == "0.0.0.0"


def test_a_served_page_is_answered_and_its_requests_are_not_logged(
    make: Callable[[str | None], Dash], capfd: pytest.CaptureFixture[str]
) -> None:
    server = listen(make("plain-token"), port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/?token=plain-token")
    status = connection.getresponse().status
    connection.close()
    server.shutdown()
    thread.join()
    server.server_close()
    assert status == 303
    assert "plain-token" not in "".join(capfd.readouterr())


def test_a_taken_port_is_an_error_that_can_be_caught(make: Callable[[str | None], Dash]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        listen(make(None), port=taken.getsockname()[1])

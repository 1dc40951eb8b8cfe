"""Who is let in: by the token, or on this machine alone; and what every answer carries."""

import httpx
import pytest

from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import load_settings
from amqpjobs.web.auth import host_of, is_loopback
from tests.integration.web.conftest import shop_at
from tests.support.brokers.broker_server import VirtualHost
from tests.support.web import JSON, served

TOKEN = "correct-horse-battery-staple"

GUARDED = [
    ("POST", "/jobs/add"),
    ("POST", "/jobs/none"),
    ("POST", "/jobs/add/request"),
    ("GET", "/jobs/schemas"),
    ("GET", "/jobs/schemas/add"),
    ("GET", "/jobs/openapi.json"),
    ("GET", "/jobs/docs"),
    ("GET", "/queues"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_the_token_nothing_is_told(
    broker_43: VirtualHost, method: str, path: str
) -> None:
    """401 before anything is looked at: path, query, body."""
    async with served(shop_at(broker_43.url, web_token=TOKEN)) as client:
        for given in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
            {"Authorization": "Bearer"},
        ):
            answer = await client.request(
                method, f"{path}?delay=x&timeout=x", content=b"{", headers={**JSON, **given}
            )
            assert answer.status_code == 401, (given, answer.text)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert TOKEN not in answer.text


async def test_with_the_token_the_name_of_the_host_is_no_matter(broker_43: VirtualHost) -> None:
    """It may be behind a proxy, under any name."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "jobs.example.org"}
    async with served(shop_at(broker_43.url, web_token=TOKEN)) as client:
        assert (await client.get("/jobs/schemas", headers=headers)).status_code == 200
        enqueued = await client.post("/jobs/add", json={"a": 1}, headers=headers)
        assert enqueued.status_code == 202


async def test_probes_are_open(broker_43: VirtualHost) -> None:
    """Whoever asks them has no token; they tell nothing else."""
    async with served(shop_at(broker_43.url, web_token=TOKEN)) as client:
        for path in ("/healthz", "/readyz"):
            answer = await client.get(path, headers={"Host": "10.0.0.7:8000"})
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:8000", 200),
        ("127.8.8.8", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("10.0.0.7", 403),
        ("0.0.0.0", 403),
        ("", 403),
        ("[::1].evil.example", 200),
    ],
)
async def test_without_a_token_the_host_is_this_machine(
    client: httpx.AsyncClient, host: str, status: int
) -> None:
    """A page that has given its own name our address says that name. No browser says the last."""
    answer = await client.get("/jobs/schemas", headers={"Host": host})
    assert answer.status_code == status


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_the_host_is_looked_at_everywhere(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    """Also where a page could do something without reading the answer."""
    headers = {**JSON, "Host": "evil.example"}
    answer = await client.request(method, path, content=b"{}", headers=headers)
    assert answer.status_code == 403


async def test_other_origins_are_not_let_in(client: httpx.AsyncClient) -> None:
    """No CORS: a browser that asks whether a page elsewhere may post is not told yes."""
    asked = await client.options(
        "/jobs/add",
        headers={
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert asked.status_code == 405
    read = await client.get("/jobs/schemas", headers={"Origin": "https://evil.example"})
    for answer in (asked, read):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path", ["/jobs/schemas", "/jobs/schemas/none", "/queues", "/nowhere", "/healthz", "/jobs/add"]
)
async def test_every_answer_is_safe_to_show(client: httpx.AsyncClient, path: str) -> None:
    """What is right, what is wrong, what is not there."""
    headers = (await client.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"


def test_a_token_that_can_be_guessed_is_refused() -> None:
    """With how to make one; the value is not said."""
    with pytest.raises(ConfigurationError, match="openssl rand -hex 32") as caught:
        load_settings(web_token="hunter2")
    assert "hunter2" not in str(caught.value)
    assert "AMQPJOBS_WEB_TOKEN" in str(caught.value)
    assert TOKEN not in repr(load_settings(web_token=TOKEN))


@pytest.mark.parametrize(
    ("value", "host"),
    [("a", "a"), ("a:1", "a"), ("[::1]", "::1"), ("[::1]:8", "::1"), ("", ""), (":8", "")],
)
def test_a_host_is_read_without_its_port(value: str, host: str) -> None:
    """IPv6 in brackets."""
    assert host_of(value) == host


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("::1", True), ("127.0.0.2", True), ("::ffff:10.0.0.1", False), ("0.0.0.0", False),
     ("::", False), ("localhost.localdomain", False)],
)  # fmt: skip
def test_loopback_is_what_everybody_takes_for_it(host: str, is_own: bool) -> None:
    """A name is resolved by somebody; only this one by nobody."""
    assert is_loopback(host) is is_own

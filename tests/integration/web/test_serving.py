"""``amqpjobs web`` as a process: where it listens, what it logs, how it stops."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from amqpjobs.web.server import Listening, WebServer
from amqpjobs.web.tier import Tier
from tests.support.amqp import drain
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import Ledger, command, consuming, environment, running
from tests.support.waiting import PATIENCE
from tests.support.web import serving
from tests.support.workers import app_at

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def env(broker_43: VirtualHost, tmp_path: Path) -> dict[str, str]:
    return environment(broker_43.url, tmp_path)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as connection:
        yield connection


def asking(path: str, body: str = "7") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def everything(connection: socket.socket) -> bytes:
    """Until the server closes."""
    found = b""
    while chunk := connection.recv(65536):
        found += chunk
    return found


# Where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_beyond_loopback_there_must_be_a_token(tmp_path: Path, host: str) -> None:
    """Refused before anything is opened: usage, one line, with the fix."""
    env = environment("amqp://nowhere", tmp_path)
    done = command("web", "--host", host, "--port", "0", env=env)
    if host == "":
        env["AMQPJOBS_WEB_HOST"] = "0.0.0.0"
        done = command("web", "--port", "0", env=env)
    assert done.returncode == 2, str(done)
    assert "AMQPJOBS_WEB_TOKEN" in done.stderr
    assert "openssl rand -hex 32" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_with_a_token_it_may_be_open(env: dict[str, str]) -> None:
    """And asks for it."""
    with serving("--host", "0.0.0.0", env=env | {"AMQPJOBS_WEB_TOKEN": TOKEN}) as (program, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/queues").status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{url}/queues", headers=headers).status_code == 200
        program.wait_for("request", times=2)
        assert TOKEN not in str(program)


def test_a_port_that_is_taken_is_named(env: dict[str, str]) -> None:
    """Usage, one line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = command("web", "--port", port, env=env)
    assert done.returncode == 2
    assert port in done.stderr
    assert "--port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "variables", "says"),
    [
        (["--host", "no.such.host.invalid"], {}, "no.such.host.invalid"),
        (["--asgi", "tests.integration.web.applications:nothing"], {}, "no 'nothing'"),
        (
            ["--asgi", "tests.integration.web.applications:not_callable"],
            {},
            "not an ASGI application",
        ),
        (["--asgi", "nowhere:api"], {}, "no module 'nowhere'"),
        ([], {"AMQPJOBS_WEB_TOKEN": "short"}, "AMQPJOBS_WEB_TOKEN"),
    ],
)
def test_what_cannot_be_served_is_usage(
    tmp_path: Path, options: list[str], variables: dict[str, str], says: str
) -> None:
    """One line that names it."""
    env = environment("amqp://nowhere", tmp_path, **variables)
    done = command("web", "--port", "0", *options, env=env)
    assert done.returncode == 2, str(done)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_localhost_is_every_address_that_it_has(env: dict[str, str]) -> None:
    """On one port, so that whoever resolves it otherwise finds it too."""
    with serving("--host", "localhost", env=env) as (_, url):
        port = urlsplit(url).port
        for kind, _, _, _, address in socket.getaddrinfo("localhost", port, proto=6):
            with socket.socket(kind) as probe:
                probe.connect(address)


# What it logs


def test_a_request_is_one_line_and_no_more(env: dict[str, str]) -> None:
    """Method, path, status and time; nothing that was sent."""
    with serving(env=env) as (program, url):
        secret = "hunter2-and-more"
        httpx.post(
            f"{url}/jobs/fail?expires=60&x={secret}",
            json={"n": 1, "secret": secret},
            headers={"Authorization": f"Bearer {secret}", "Idempotency-Key": secret},
        )
        httpx.post(f"{url}/jobs/fail", json={"n": secret})
        program.wait_for("request", times=2)
        line, refused = program.logged("request")
        assert {k: line[k] for k in ("method", "path", "status")} == {
            "method": "POST", "path": "/jobs/fail", "status": 202
        }  # fmt: skip
        assert line["ms"] > 0
        assert refused["status"] == 422
        assert secret not in str(program)
        assert [entry["event"] for entry in program.lines].count("request") == 2


def test_nonsense_is_answered_and_survived(env: dict[str, str]) -> None:
    """What is not HTTP, and a path that is no text."""
    with serving(env=env) as (program, url):
        with connected(url) as connection:
            connection.sendall(b"\x00\xff nonsense\r\n\r\n")
            assert b"400" in everything(connection).split(b"\r\n")[0]
        with connected(url) as connection:
            connection.sendall(
                b"GET /jobs/%ff%00%0a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            everything(connection)
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert all(line["level"] != "error" for line in program.lines)


def test_a_body_that_never_ends_is_not_kept(env: dict[str, str]) -> None:
    """Streamed without a length: refused, and the connection goes on being of use."""

    def much() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 20_000

    with serving(env=env) as (_, url), httpx.Client(timeout=PATIENCE) as client:
        headers = {"Content-Type": "application/json"}
        answer = client.post(f"{url}/jobs/quick", content=much(), headers=headers)
        assert answer.status_code == 413
        assert client.get(f"{url}/healthz").status_code == 200


def test_a_broker_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    """The tier is up and says that it is not ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = environment(f"amqp://127.0.0.1:{port}/", tmp_path)
    with serving("--no-recorder", env=env) as (_, url):
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/readyz").status_code == 503


def test_a_broker_that_refuses_us_for_good_ends_it(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Exit status 3, one line, as for every command."""
    env = environment(broker_43.url.replace("guest:guest", "guest:wrong"), tmp_path)
    done = command("web", "--port", "0", env=env)
    assert done.returncode == 3, str(done)
    assert len(done.stderr.splitlines()) == 1
    assert "wrong" not in done.stderr


# How it stops


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_when_nothing_runs(env: dict[str, str], number: int) -> None:
    """Exit status 0; an idle connection does not hold it."""
    env = env | {"AMQPJOBS_SHUTDOWN_TIMEOUT": "15"}
    with serving(env=env) as (program, url), httpx.Client() as client:
        client.get(f"{url}/healthz")
        started = time.monotonic()
        program.signal(number)
        assert program.wait() == 0
        assert time.monotonic() - started < 10, "it used its budget up"
        program.wait_for("stopped")


async def test_a_signal_while_it_starts_ends_it(
    broker_43: VirtualHost, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It has never been ready, and says so to nobody."""
    app = app_at(broker_43.url, web_port=0, store_url=f"sqlite:///{tmp_path / 'status.db'}")
    caplog.set_level("INFO", "amqpjobs.web")
    for _ in range(5):
        server = WebServer(Tier(app, recorder=False), Listening(app.settings))
        server.stop()
        async with asyncio.timeout(10):
            await server.run()
    ours = [record.message for record in caplog.records if record.name == "amqpjobs.web"]
    assert ours == ["stopping", "stopped"] * 5


def test_what_runs_is_finished(env: dict[str, str]) -> None:
    """A request that waits for its job gets its result; new ones are not taken."""
    ledger = Ledger(env)
    with consuming("work", env=env), serving(env=env) as (program, url):
        with connected(url) as connection:
            connection.sendall(asking("/jobs/hold/request?timeout=60"))
            ledger.wait_for("started", [7])
            program.signal()
            program.wait_for("stopping")
            assert poll(lambda: refused(url), PATIENCE), "it still listens"
            ledger.go()
            answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"null")
        assert program.wait() == 0


def refused(url: str) -> bool:
    try:
        with connected(url):
            return False
    except OSError:
        return True


def test_what_does_not_end_is_cut_off_within_the_budget(env: dict[str, str]) -> None:
    """503 for who waits, the worker is told, exit status 0."""
    ledger = Ledger(env)
    with consuming("work", env=env), serving(env=env) as (program, url):
        with connected(url) as connection, connected(url) as silent:
            connection.sendall(asking("/jobs/hold/request?timeout=60"))
            # Half a request: nobody works on it, and nobody will send the rest.
            silent.sendall(b"POST /jobs/quick HTTP/1.1\r\nHost: localhost\r\n")
            ledger.wait_for("started", [7])
            started = time.monotonic()
            program.signal()
            answer = everything(connection)
            assert program.wait() == 0
        assert time.monotonic() - started < 10, "the budget is 3 s, and the job would take 60"
        assert answer.startswith(b"HTTP/1.1 503")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "stopping"
        ledger.wait_for("cancelled", [7])
        assert program.logged("requests are cut off", count=1)


def test_a_second_signal_ends_it_now(env: dict[str, str]) -> None:
    """Whatever runs."""
    env = env | {"AMQPJOBS_SHUTDOWN_TIMEOUT": "60"}
    ledger = Ledger(env)
    with consuming("work", env=env), serving(env=env) as (program, url):
        with connected(url) as connection:
            connection.sendall(asking("/jobs/hold/request?timeout=60"))
            ledger.wait_for("started", [7])
            program.signal()
            program.wait_for("stopping")
            started = time.monotonic()
            program.signal()
            assert everything(connection).startswith(b"HTTP/1.1 503")
            assert program.wait() == 0
        assert time.monotonic() - started < 15, "the budget is 60 s"
        ledger.go()


def test_a_client_that_does_not_read_holds_nothing(env: dict[str, str]) -> None:
    """Its answer is dropped at the end of the budget."""
    with serving(env=env) as (program, url), connected(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /jobs/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request * 200)
        program.wait_for("request", path="/jobs/openapi.json")
        started = time.monotonic()
        program.signal()
        assert program.wait() == 0
        assert time.monotonic() - started < 10, "the budget is 3 s, and nobody would ever read it"


def test_systemd_is_told(env: dict[str, str], tmp_path: Path) -> None:
    """Ready and stopping, as by a worker; and the heartbeat file says how it is."""
    address = str(tmp_path / "notify")
    heartbeat = tmp_path / "heartbeat"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(address)
        told.settimeout(PATIENCE)
        variables = {"NOTIFY_SOCKET": address, "AMQPJOBS_HEARTBEAT_FILE": str(heartbeat)}
        with serving(env=env | variables) as (program, _):
            words: list[bytes] = []
            while b"READY=1" not in words:
                words.append(told.recv(1000))
            assert poll(lambda: heartbeat.exists() and "ok" in heartbeat.read_text(), PATIENCE)
            program.signal()
            while b"STOPPING=1" not in words:
                words.append(told.recv(1000))
            assert program.wait() == 0


# Beside the user's own application

THEIRS = ("--asgi", "tests.integration.web.applications:api")


def test_an_application_is_served_beside_the_api(
    env: dict[str, str], broker_43: VirtualHost
) -> None:
    """Its paths are its own, its lifespan runs around it, and inside of the app's."""
    ledger = Ledger(env)
    with serving(*THEIRS, env=env) as (program, url):
        ledger.wait_for("up", [0])
        assert httpx.get(f"{url}/").json() == {"page": "home"}
        assert "theirs" in httpx.get(f"{url}/jobsearch").json()["page"]
        assert httpx.get(f"{url}/docs").status_code == 200
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        ours = httpx.post(f"{url}/jobs/quick", json=1)
        theirs = httpx.post(f"{url}/order/2")
        assert (ours.status_code, theirs.status_code) == (202, 200)
        program.signal()
        assert program.wait() == 0
    ledger.wait_for("down", [0])
    assert len(asyncio.run(drain(broker_43.url, "work"))) == 3, "ours, theirs, its lifespan's"


def test_its_requests_are_finished_too(env: dict[str, str]) -> None:
    """And cut off, if they do not end."""
    ledger = Ledger(env)
    with serving(*THEIRS, env=env | {"SLOW": "1"}) as (program, url):
        with connected(url) as connection:
            connection.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            ledger.wait_for("slow", [0])
            program.signal()
            assert b'"done"' in everything(connection)
        assert program.wait() == 0


def test_an_application_that_does_not_start_says_why(env: dict[str, str]) -> None:
    """Exit status 1; the traceback is in the log."""
    with running(
        "web", "--port", "0", "--asgi", "tests.integration.web.applications:broken", env=env
    ) as web:
        assert web.wait() == 1
        assert "no database" in str(web)
        assert "did not start" in web.errors


def test_an_application_without_a_lifespan_is_served(env: dict[str, str]) -> None:
    """Not all have one."""
    with serving("--asgi", "tests.integration.web.applications:bare", env=env) as (_, url):
        assert httpx.get(f"{url}/").text == "bare"


async def test_websockets_go_to_the_application() -> None:
    """Also those whose path begins like ours: the API has none."""
    from amqpjobs.web.mount import Beside

    seen: list[Any] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], scope["path"]))

    async def api(scope: Any, receive: Any, send: Any) -> None:
        seen.append("api")

    beside = Beside(api, other)
    for kind, path in (("websocket", "/echo"), ("websocket", "/jobs/x"), ("http", "/jobs")):
        await beside({"type": kind, "path": path}, None, None)  # type: ignore[arg-type]
    assert seen == [("websocket", "/echo"), ("websocket", "/jobs/x"), "api"]

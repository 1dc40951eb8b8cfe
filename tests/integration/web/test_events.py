"""Watching jobs over HTTP: every status once, in order, over reconnections and restarts."""

import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sse_starlette import ServerSentEvent

from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.web import events
from amqpjobs.web.events import event_of, is_newer, place_of, place_of_id
from tests.integration.web.conftest import shop_at
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import Ledger, Program, consuming, environment
from tests.support.waiting import PATIENCE
from tests.support.waiting import until as wait_until
from tests.support.web import served, serving
from tests.support.workers import working

Event = dict[str, str]


def go(env: dict[str, str], *numbers: int) -> None:
    """Let `steps` go on."""
    for number in numbers:
        Path(f"{env['JOBS_LEDGER']}.{number}").touch()


@pytest.fixture
def env(broker: VirtualHost, tmp_path: Path) -> dict[str, str]:
    return environment(broker.url, tmp_path, AMQPJOBS_APP="tests.integration.web.watched:app")


@pytest.fixture
def env_43(broker_43: VirtualHost, tmp_path: Path) -> dict[str, str]:
    return environment(broker_43.url, tmp_path, AMQPJOBS_APP="tests.integration.web.watched:app")


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    """As an EventSource reads them; comments too, for they are looked at here."""
    event: Event = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            yield event
            event = {}


@contextmanager
def watching(url: str, job_id: str, last: str | None = None) -> Iterator[Iterator[Event]]:
    headers = {"Last-Event-ID": last} if last else {}
    with (
        httpx.Client(timeout=PATIENCE) as client,
        client.stream("GET", f"{url}/jobs/{job_id}/events", headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        yield parsed(answer.iter_lines())


def enqueue(url: str, job: str, body: Any) -> str:
    return str(httpx.post(f"{url}/jobs/{job}", json=body).json()["id"])


def words(found: list[Event]) -> list[tuple[str, str]]:
    data = [json.loads(each["data"]) for each in found if each.get("event") == "status"]
    return [(each["state"], each["detail"]) for each in data]


def test_a_job_is_watched_to_its_end(env: dict[str, str]) -> None:
    """From where it waits to its result; then `end`, and nothing more."""
    with serving(env=env) as (_, url):
        job_id = enqueue(url, "steps", 2)
        with watching(url, job_id) as stream:
            found = [next(stream), next(stream)]
            with consuming("watched", env=env):
                while ("started", "step 1") not in words(found):
                    found.append(next(stream))
                go(env, 1)
                while ("started", "step 2") not in words(found):
                    found.append(next(stream))
                go(env, 2)
                found += list(stream)
    assert found[0] == {"retry": "1000"}
    assert words(found)[0][0] == "queued"
    assert [state for state, _ in words(found)][-1] == "done"
    last = json.loads(found[-2]["data"])
    assert last["result"] == "2 steps"
    assert found[-1]["event"] == "end"
    assert json.loads(found[-1]["data"]) == {"state": "done"}
    assert found[-1]["id"] == found[-2]["id"]
    places = [place_of_id(each["id"]) for each in found if each.get("event") == "status"]
    assert None not in places
    assert places == sorted(set(places)), "each is newer than the one before"


def test_who_comes_back_gets_what_is_newer(env: dict[str, str]) -> None:
    """Nothing again, nothing lost; and after the end, 204, so that an EventSource stays away."""
    with serving(env=env) as (_, url), consuming("watched", env=env):
        job_id = enqueue(url, "steps", 2)
        found: list[Event] = []
        with watching(url, job_id) as stream:
            while ("started", "step 1") not in words(found):
                found.append(next(stream))
        go(env, 1)
        with watching(url, job_id, found[-1]["id"]) as stream:
            again: list[Event] = []
            while ("started", "step 2") not in words(again):
                again.append(next(stream))
            assert ("started", "step 1") not in words(again)
            assert "queued" not in [state for state, _ in words(again)]
        go(env, 2)
        with watching(url, job_id, again[-1]["id"]) as stream:
            rest = list(stream)
        assert words(rest) == [("done", "step 2")]
        # The server heard of the end itself: whether it is recorded yet makes no difference.
        done = httpx.get(f"{url}/jobs/{job_id}/events", headers={"Last-Event-ID": rest[-1]["id"]})
        assert (done.status_code, done.content) == (204, b"")
        late = httpx.get(f"{url}/jobs/{job_id}/events", headers={"Last-Event-ID": "nonsense"})
        assert [each.get("event") for each in parsed(iter(late.text.splitlines()))] == [
            None, "status", "end"
        ]  # fmt: skip


def test_a_stop_ends_streams_and_clients_come_back_elsewhere(env_43: dict[str, str]) -> None:
    """At once and cleanly: not within the budget, and no `end`. The next server goes on."""
    env = env_43 | {"AMQPJOBS_SHUTDOWN_TIMEOUT": "15"}
    ledger = Ledger(env)
    with consuming("watched", env=env):
        with serving(env=env) as (program, url):
            job_id = enqueue(url, "steps", 1)
            ledger.wait_for("started", [1])
            with watching(url, job_id) as stream:
                found: list[Event] = []
                while ("started", "step 1") not in words(found):
                    found.append(next(stream))
                started = time.monotonic()
                program.signal(signal.SIGTERM)
                rest = list(stream)
            assert program.wait() == 0
            assert time.monotonic() - started < 10, "streams do not use the budget up"
            assert "end" not in [each.get("event") for each in rest]
            assert not [line for line in program.lines if line["level"] == "error"]
        go(env, 1)
        with serving(env=env) as (_, url), watching(url, job_id, found[-1]["id"]) as stream:
            rest = list(stream)
        assert words(rest) == [("done", "step 1")]


def test_a_client_that_goes_is_forgotten(env_43: dict[str, str]) -> None:
    """Its place is free for others: of two that there are here, the third takes one."""
    env = env_43 | {"AMQPJOBS_WEB_MAX_STREAMS": "2"}
    with serving(env=env) as (program, url):
        job_id = enqueue(url, "steps", 1)
        with watching(url, job_id) as one, watching(url, job_id) as two:
            next(one), next(two)
            third = httpx.get(f"{url}/jobs/{job_id}/events")
            assert third.status_code == 503
            assert third.json()["reason"] == "streams"
            assert third.headers["Retry-After"]

        def has_room() -> bool:
            try:
                with watching(url, job_id) as stream:
                    return bool(next(stream))
            except AssertionError:
                return False

        assert poll(has_room, PATIENCE)
        path = f"/jobs/{job_id}/events"
        assert wait_for_lines(program, path, 3)
        assert not [line for line in program.lines if line["level"] == "error"]


def wait_for_lines(program: Program, path: str, times: int) -> bool:
    program.wait_for("request", times=times, path=path)
    return True


def test_many_watch_one_job(env_43: dict[str, str]) -> None:
    """Each sees its end."""
    env = env_43
    with serving(env=env) as (_, url), consuming("watched", env=env):
        job_id = enqueue(url, "steps", 1)
        from concurrent.futures import ThreadPoolExecutor

        def last(_: int) -> str:
            with watching(url, job_id) as stream:
                return list(stream)[-1]["data"]

        with ThreadPoolExecutor(20) as pool:
            ends = pool.map(last, range(20))
            Ledger(env).wait_for("started", [1])
            go(env, 1)
            assert set(ends) == {'{"state": "done"}'}


def test_an_unknown_job_is_not_watched(env_43: dict[str, str]) -> None:
    """404, after a moment in which it might have been told of."""
    with serving(env=env_43) as (_, url):
        started = time.monotonic()
        answer = httpx.get(f"{url}/jobs/nothing/events", timeout=PATIENCE)
        assert answer.status_code == 404
        assert time.monotonic() - started >= 1.9


async def test_a_silent_stream_says_that_it_is_there(
    broker_43: VirtualHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment now and then, which clients do not see, and proxies do."""
    import asyncio

    monkeypatch.setattr(events, "PING", 0.05)
    app = shop_at(broker_43.url, store_url=f"sqlite:///{tmp_path}/status.db")
    async with served(app, recorder=True) as client:
        job_id = (await client.post("/jobs/add", json={"a": 1})).json()["id"]
        stream = asyncio.ensure_future(client.get(f"/jobs/{job_id}/events"))
        # ASGITransport gives an answer when it is whole: the job ends it, after some pings.
        await asyncio.wait((stream,), timeout=2)
        assert not stream.done()
        async with working(app):
            answer = await stream
    assert answer.text.count(": still there") >= 3
    assert "event: end" in answer.text


STATUS = JobStatus("7", "add", "q", "started", 1, 0, 100)


@pytest.mark.parametrize(
    ("changes", "last", "newer"),
    [
        ({}, None, True),
        ({}, (0, 1, 100), False),
        ({}, (0, 1, 99), True),
        ({}, (0, 1, 101), False),
        ({}, (0, 0, 999), True),
        ({}, (0, 2, 1), False),
        ({"epoch": 1}, (0, 9, 999), True),
        ({"state": "done"}, (0, 1, 100), False),
        ({"state": "done"}, (0, 1, 101), True),
    ],
)
def test_what_is_newer(changes: Any, last: Any, newer: bool) -> None:
    """By epoch, attempt and sequence; an end that a late progress has overtaken is told."""
    assert is_newer(replace(STATUS, **changes), last) is newer


@pytest.mark.parametrize(
    "value", ["", "1", "1-2", "1-2-3-4", "a-b-c", "-1-2-3", "1-2-٣", "1-2-3\n"]
)
def test_an_id_that_is_none_is_no_place(value: str) -> None:
    """Then everything is told again."""
    assert place_of_id(value) is None


def test_an_event_is_read_back() -> None:
    """Its id is its place, and lines in words do not break it."""
    made: ServerSentEvent = event_of(replace(STATUS, detail="two\nlines: ä\r\nevent: end"))
    [event] = parsed(iter(made.encode().decode().splitlines()))
    assert place_of_id(event["id"]) == place_of(STATUS)
    assert json.loads(event["data"])["detail"] == "two\nlines: ä\r\nevent: end"
    assert event["event"] == "status"


async def test_streams_end_when_the_app_does() -> None:
    """`until` lets go of what it watches, whoever is first."""
    import anyio

    from amqpjobs.web.events import until

    closed = []

    async def updates() -> AsyncIterator[JobStatus]:
        try:
            yield STATUS
            await anyio.sleep_forever()
        finally:
            closed.append(True)

    stopping = anyio.Event()
    found = []
    async for status in until(updates(), stopping):  # type: ignore[arg-type]
        found.append(status)
        stopping.set()
    assert found == [STATUS]
    await wait_until(lambda: closed, "what was watched is let go")


def test_a_socket_is_enough_to_watch(env_43: dict[str, str]) -> None:
    """Any client of HTTP 1.1: the stream is chunked, and begins at once."""
    from urllib.parse import urlsplit

    with serving(env=env_43) as (_, url):
        job_id = enqueue(url, "steps", 1)
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as client:
            request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.sendall(request.encode())
            got = b""
            while b"event: status" not in got:
                got += client.recv(4096)
        assert b"transfer-encoding: chunked" in got.lower()
        assert b"retry: 1000" in got

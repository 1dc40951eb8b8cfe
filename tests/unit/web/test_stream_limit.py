"""The limit of event streams, when many clients come at once."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.responses import Response

from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.web import events
from amqpjobs.web.events import Events
from amqpjobs.web.problems import Problem
from tests.unit.broker.rabbitmq.fake_wire import turns

LIMIT = 3


class Tier(SimpleNamespace):
    """What the route uses of a tier: a job that goes on for ever, or none."""

    def __init__(self, status: JobStatus | None) -> None:
        super().__init__(
            app=self,
            settings=SimpleNamespace(web_max_streams=LIMIT),
            stopping=anyio.Event(),
            streams=0,
        )
        self.found = status

    async def status(self, job_id: str) -> JobStatus | None:
        await turns(3)
        return self.found

    async def watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        if self.found is not None:
            yield self.found
        await asyncio.Event().wait()


def status(state: str = "running") -> JobStatus:
    return JobStatus(
        id="1", job="job", queue="work", state=state, epoch=0, attempt=1, sequence=1,
    )  # fmt: skip


async def clients(tier: Any, count: int, last: str | None = None) -> list[Any]:
    """The responses, or errors, of so many clients at once."""
    route = Events(tier)
    asking = (route.events("1", last) for _ in range(count))
    return await asyncio.gather(*asking, return_exceptions=True)


def refused(answers: list[Any]) -> list[Problem]:
    return [answer for answer in answers if isinstance(answer, Problem)]


async def test_of_200_clients_at_once_as_many_are_served_as_there_may_be() -> None:
    """Each waits for the store between its question and its stream."""
    tier = Tier(status())
    answers = await clients(tier, 200)
    assert len(refused(answers)) == 200 - LIMIT
    assert {problem.status for problem in refused(answers)} == {503}
    assert tier.streams == LIMIT
    assert len(refused(await clients(tier, 1))) == 1


async def test_a_stream_that_ends_makes_room() -> None:
    """Whether its client went, or it was cancelled."""
    tier = Tier(status())
    sending, gone = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sending.set()

    [response] = await clients(tier, 1)
    scope: Any = {"type": "http", "method": "GET", "headers": []}
    task = asyncio.create_task(response(scope, receive, send))
    await sending.wait()
    assert tier.streams == 1
    gone.set()
    await asyncio.wait([task], timeout=5)
    assert tier.streams == 0


async def test_a_stream_that_is_never_sent_makes_room() -> None:
    """What is between the route and the server may fail."""
    tier = Tier(status())
    answers = await clients(tier, LIMIT)
    assert tier.streams == LIMIT
    del answers
    await turns()
    gc.collect()
    assert tier.streams == 0


async def test_what_is_no_stream_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown job, and one that has ended for a client that knows."""
    monkeypatch.setattr(events, "PATIENCE", 0.01)
    unknown, over = Tier(None), Tier(status("done"))
    assert [problem.status for problem in refused(await clients(unknown, LIMIT))] == [404] * LIMIT
    answers = await clients(over, LIMIT, "0-1-1")
    assert [a.status_code for a in answers if isinstance(a, Response)] == [204] * LIMIT
    assert unknown.streams == over.streams == 0

"""Which jobs a worker knows to be cancelled, and for how long."""

import time
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.cancellation import (
    BY_AN_OPERATOR,
    REMEMBERED_FOR,
    answer_body,
    read_answer,
    reason_in,
    request_body,
)
from amqpjobs.worker import cancelled_jobs as module
from amqpjobs.worker.cancelled_jobs import CancelledJobs
from tests.support.amqp import stranger
from tests.support.waiting import until
from tests.support.workers import app_at, working
from tests.unit.worker import middleware_jobs


def test_they_are_remembered_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not too many of them; the latest reason counts."""
    monkeypatch.setattr(module, "MOST", 2)
    known = CancelledJobs({})
    assert known.reason_of("a") is None
    for job_id, reason in (("a", "old"), ("b", "two"), ("c", "three"), ("b", "again")):
        assert known.cancel(job_id, reason) == "noted"
    assert [known.reason_of(each) for each in "abc"] == [None, "again", "three"]
    known.remember("d", "over", time.time() - 1)
    assert known.reason_of("d") is None
    assert "d" not in known.known
    assert known.known["b"][0] == pytest.approx(time.time() + REMEMBERED_FOR, abs=60)


def test_what_others_write_is_checked() -> None:
    """Any program that may publish can ask."""
    assert reason_in(request_body("x" * 1000)) == "x" * 200
    assert reason_in(b"{}") == BY_AN_OPERATOR
    assert read_answer(answer_body("host:1", "running")) == ("host:1", "running")
    for body in (b"", b"[]", b'{"reason": 1}', b"[" * 100_000):
        with pytest.raises(DecodeError):
            reason_in(body)
    with pytest.raises(DecodeError):
        read_answer(b"{}")


async def test_in_a_test_of_an_app_it_is_cancelled() -> None:
    """Whether its worker has begun by then or not."""
    app = App("cancelling")
    ran: list[int] = []

    @app.job(queue="work")
    async def job(n: int) -> None:
        ran.append(n)

    async with app.testing() as t:
        first = await job.later(1)
        await first.cancel(reason="twice")
        await t.run_until_idle()
        second = await job.with_options(delay=60).later(2)
        await second.cancel()
        await t.advance(60)
        status = await first.status()
        assert status is not None
        assert (status.state, status.reason) == ("cancelled", "twice")
        assert [run.outcome for run in t.runs(job)] == ["cancelled", "cancelled"]
    assert ran == []


async def test_a_thread_job_in_quarantine_is_killed_with_its_process() -> None:
    """It cannot be asked there."""
    outcomes: list[str] = []

    def seen(run: Any, outcome: Any) -> None:
        outcomes.append(outcome.word)

    async with Broker() as broker:
        with middleware_jobs.app.placed(settings=app_at(broker.url).settings):
            app, sleeping = middleware_jobs.app, middleware_jobs.sleeping
            async with app.lifespan():
                handle = await sleeping.later()
                async with stranger(broker.url) as channel:
                    await (await channel.get_queue("threads")).get()  # and dies with it
                async with working(app, "threads", observers=[seen]) as worker:
                    await until(lambda: worker.snapshot().running == 1, "it runs")
                    await handle.cancel()
                    await until(lambda: outcomes, "it has ended")
    assert outcomes == ["cancelled"]

"""What was watched is known, although a recorder may not have written it yet."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from amqpjobs.errors import StoreUnavailable
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.state.status import reader
from amqpjobs.state.status.reader import Statuses


def status(state: str, sequence: int = 1, *, epoch: int = 0, job_id: str = "a") -> JobStatus:
    return JobStatus(job_id, "j", "q", state, 1, epoch=epoch, sequence=sequence)


class Client:
    """As much of one as is asked here."""

    def __init__(self) -> None:
        self.on_close: list[Any] = []


class Trial(Statuses):
    """With a store that says what it is told, and events."""

    def __init__(self, *events: JobStatus) -> None:
        super().__init__(Client())  # type: ignore[arg-type]
        self.stored: JobStatus | None = None
        self.events = events
        self.fails = False

    def _reader(self) -> Any:
        async def store() -> Any:
            if self.fails:
                raise StoreUnavailable("away")

            async def get(_: str) -> JobStatus | None:
                return self.stored

            return SimpleNamespace(get=get)

        return SimpleNamespace(store=store)

    async def _watched(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        for event in self.events:
            yield event


async def watched(trial: Trial) -> list[JobStatus]:
    async with aclosing(trial.watch("a")) as updates:
        return [update async for update in updates]


async def test_an_end_that_was_watched_is_known() -> None:
    """Until the store knows as much; what is newer there wins."""
    end = status("done", 5)
    trial = Trial(status("started", 2), end)
    await watched(trial)
    assert await trial.get("a") is end
    trial.stored = status("started", 9)  # clocks differ; an end is after all else of its run
    assert await trial.get("a") is end
    replayed = trial.stored = status("queued", 6, epoch=1)
    assert await trial.get("a") is replayed
    trial.stored = None
    assert await trial.get("a") is None


async def test_who_watches_again_is_told_the_end_at_once() -> None:
    """And not what a store that is behind says first. A newer run is watched."""
    started, end = status("started", 2), status("done", 5)
    trial = Trial(started, end)
    trial.stored = started
    assert await watched(trial) == [started, end]
    assert await watched(trial) == [end]
    trial.fails = True
    assert await watched(trial) == [end]
    trial.fails = False
    trial.stored = status("queued", 6, epoch=1)
    trial.events = (status("done", 7, epoch=1),)
    assert await watched(trial) == list(trial.events)
    assert await watched(trial) == list(trial.events)


async def test_what_has_not_ended_is_not_remembered() -> None:
    """It changes: the store is asked."""
    trial = Trial(status("started", 2))
    await watched(trial)
    assert await trial.get("a") is None


async def test_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones: they may have large results."""
    monkeypatch.setattr(reader, "REMEMBERED", 3)
    trial = Trial(*(status("done", n, job_id=str(n)) for n in range(5)))
    await watched(trial)
    assert [await trial.get(str(n)) is not None for n in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]

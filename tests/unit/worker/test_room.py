"""Room for jobs: what lacks it, whose fault that is, and what becomes of the worker."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from amqpjobs import App, Queue, Retry
from amqpjobs.broker.embedded import Broker
from amqpjobs.errors import NoRoom
from amqpjobs.jobs.outcome import Released
from amqpjobs.worker import room as room_module
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.recently_settled import Settled
from amqpjobs.worker.room import CALM, LONGEST, PAUSE, Room, lack_behind
from amqpjobs.worker.run import Run
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.support.workers import app_at
from tests.unit.worker.hand import KEY_OF, Hand


@pytest.fixture
def no_threads() -> Iterator[None]:
    """pthread_create(3) fails, as on a machine that has no more: a stack is larger than memory."""
    before = threading.stack_size(2**46)
    yield
    threading.stack_size(before)


def no_file() -> NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Time:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def room_at(time: Time) -> tuple[Room, list[str]]:
    ended: list[str] = []
    return Room(lambda: ended.append("ended"), clock=time), ended


def test_room_is_there_again_when_no_job_has_lacked_it_for_a_while():
    time = Time()
    room, ended = room_at(time)
    assert room.state is None
    room.lacks("no more files")
    assert room.state == "no room: no more files"
    time.now += CALM - 1
    assert room.state is not None
    time.now += 1
    assert room.state is None
    assert not ended


def test_a_worker_that_has_no_room_for_long_is_ended_once():
    """Such as for the supervisor to start another; a lack that was over counts from its return."""
    time = Time()
    room, ended = room_at(time)
    for _ in range(5):
        room.lacks("no more files")
        time.now += CALM + 1
    for _ in range(int(LONGEST / PAUSE) + 5):
        room.lacks("no more files")
        time.now += PAUSE
    assert ended == ["ended"]
    assert isinstance(room.failure, NoRoom)
    assert "no more files" in str(room.failure)


def test_slots_full_of_threads_that_do_not_end_are_no_room():
    """The worker is recycled for it, not ended with an error."""
    ended: list[str] = []
    room = Room(lambda: ended.append("ended"), lambda: "2 of 2 slots")
    assert room.state == "no room: 2 of 2 slots"
    assert not ended


def test_a_file_that_is_lacking_is_no_jobs_fault_when_others_have_them(monkeypatch):
    """Also behind the errors that libraries make of it."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (4, 4))

    def connect() -> None:
        try:
            no_file()
        except OSError as error:
            raise ConnectionError("cannot connect") from error

    with pytest.raises(ConnectionError) as caught:
        connect()
    assert lack_behind(caught.value) == "Too many open files"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_job_that_takes_all_files_itself_has_failed(monkeypatch):
    """What its frames held is counted as given back."""
    used = len(list(Path("/dev/fd").iterdir()))
    monkeypatch.setattr("resource.getrlimit", lambda _: (2 * used + 40, 0))

    def greedy() -> None:
        held = [Path(os.devnull).open() for _ in range(2 * used + 40)]  # noqa: SIM115
        assert held
        no_file()

    with pytest.raises(OSError, match="Too many") as caught:
        greedy()
    assert lack_behind(caught.value) is None


def test_other_errors_say_nothing_of_room():
    assert lack_behind(ValueError("no")) is None
    assert lack_behind(RuntimeError("can't start new thread")) is None, "there is one, now"
    assert lack_behind(FileNotFoundError(errno.ENOENT, "no")) is None


def test_a_thread_that_cannot_be_started_is_no_jobs_fault(no_threads):
    with pytest.raises(RuntimeError) as caught:
        threading.Thread(target=int).start()
    assert lack_behind(caught.value) == "can't start new thread"


@pytest.mark.parametrize("own", [True, False], ids=["by the worker", "by the handler"])
async def test_a_job_without_a_thread_is_given_back_later(no_threads, monkeypatch, own):
    """No attempt is used, nothing fails, and its slot is kept for the pause."""
    monkeypatch.setattr(room_module, "PAUSE", 0.01)
    app = App("a", retry=Retry(attempts=1))

    def thread() -> None: ...

    async def starts() -> None:
        threading.Thread(target=int).start()

    app.job(queue=Queue("queue"), name="job")(thread if own else starts)
    pipeline = Pipeline(
        app.client.runtime, Execution(2), asyncio.Event(), {}, 1000, Settled(KEY_OF),
        lambda run: False,
    )  # fmt: skip
    async with Hand() as hand:
        outcome = await pipeline.outcome_of(Run(hand.give(type="job")))
    assert outcome == Released("no room in this worker: can't start new thread")


async def test_a_worker_without_room_ends_with_an_error(monkeypatch, request):
    """And has given back what it could not run, with no attempt used."""
    monkeypatch.setattr(room_module, "PAUSE", 0.05)
    monkeypatch.setattr(room_module, "LONGEST", 0.3)
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="work")
        def job(n: int) -> None: ...

        worker = Worker(app, concurrency=2)
        running = asyncio.create_task(worker.run())
        await worker.started()
        await app.client.publisher()
        request.getfixturevalue("no_threads")
        await app.later_many(job.message(n) for n in range(20))
        await until(lambda: worker.state.startswith("no room: "), "it says so")
        assert not worker.ready
        with pytest.raises(NoRoom, match="ulimit"):
            await running
        queues = broker.virtual_host.queues
        await until(lambda: queues["work"].ready == 20, "all are given back")
        assert not queues["work.dead"].ready
        await app.close()

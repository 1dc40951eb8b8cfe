"""A handler that blocks the event loop is named, once, with its stack; nothing else is."""

import asyncio
import threading
import time
from contextvars import copy_context
from types import SimpleNamespace

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.jobs.context import Context
from amqpjobs.jobs.run_context import current_context, plain_context
from amqpjobs.worker.blocked_loop import BlockedLoop, Pulse, _inherited
from tests.support.waiting import until

BLOCKED, ON = "the event loop is blocked", "the event loop runs again"
INTERVAL = 0.25


class Loop:
    """Marks, looks and a processor, as a test says."""

    def __init__(self, threshold=1.0):
        self.pulse = Pulse(threshold, INTERVAL)
        self.now = self.mark = 100.0
        self.used = 5.0
        self.found = []

    def look(self, *, marks=True, after=INTERVAL, works=False):
        """Time passes, the loop makes a mark or does not, the thread looks."""
        self.now += after
        self.used += after if works else 0.0
        if marks:
            self.mark = self.now
        found = self.pulse.look(self.mark, self.now, self.used)
        if found is not None:
            self.found.append(found)


def test_a_loop_that_makes_its_marks_is_not_blocked():
    """However long it lives."""
    loop = Loop()
    for _ in range(100):
        loop.look()
    assert loop.found == []


def test_a_blocked_loop_is_told_once_and_again_when_it_goes_on():
    """With how long it is, and how long it was."""
    loop = Loop()
    loop.look()
    for _ in range(12):
        loop.look(marks=False)
    assert loop.found == [(True, 1.0)]
    loop.look()
    assert loop.found[1:] == [(False, 3.25)]
    for _ in range(4):
        loop.look(marks=False)
    assert loop.found[2:] == [(True, 1.0)]


@pytest.mark.parametrize("loop_first", [True, False])
def test_a_process_that_was_stopped_was_not_blocked(loop_first):
    """SIGSTOP, or a laptop's lid: the thread stood still as well."""
    loop = Loop()
    loop.look()
    loop.look(marks=loop_first, after=90.0)
    for _ in range(2):
        loop.look(marks=False)
    assert loop.found == []
    loop.look()
    assert loop.found == []


def test_a_loop_that_is_blocked_and_then_stopped_is_told_without_the_stop():
    """The time that nobody had does not count."""
    loop = Loop()
    loop.look()
    loop.look(marks=False)
    loop.look(marks=False, after=90.0)
    for _ in range(6):
        loop.look(marks=False)
    assert loop.found == [(True, pytest.approx(1.0))]
    loop.look()
    assert loop.found[1:] == [(False, pytest.approx(2.25))]


def test_a_call_that_lets_no_thread_run_is_told_when_it_ends():
    """The processor was at work meanwhile: this process was not stopped."""
    loop = Loop()
    loop.look()
    loop.look(marks=False, after=8.0, works=True)
    assert loop.found == [(True, 8.0)]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.25, 0.3, 2.0, 60.0])), max_size=60))
def test_it_is_told_in_turn_and_never_for_less_than_the_threshold(steps):
    """Blocked, goes on, blocked, goes on."""
    loop = Loop()
    for marks, after in steps:
        loop.look(marks=marks, after=after)
    assert [blocked for blocked, _ in loop.found] == [n % 2 == 0 for n in range(len(loop.found))]
    assert all(seconds >= 1.0 for _, seconds in loop.found)


# --- with real loops, threads and handlers ---------------------------------------------------


def block(seconds):
    """What a handler must not do."""
    time.sleep(seconds)


def run(main, kind):
    with asyncio.Runner(loop_factory={"asyncio": None, "uvloop": uvloop.Loop}[kind]) as runner:
        return runner.run(main())


def ended():
    """Whether the thread is gone."""
    return all(t.name != "amqpjobs blocked loop" for t in threading.enumerate())


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_blocking_handler_is_named_with_its_stack(kind, caplog):
    """While it blocks, and by the task that runs."""
    jobs: dict[asyncio.Task, Context] = {}

    async def handler():
        block(0.8)

    async def main():
        watching = asyncio.create_task(BlockedLoop(0.2, jobs.get).run())
        await asyncio.sleep(0)
        task = asyncio.create_task(handler())
        jobs[task] = plain_context("resize", "id-1")
        began = time.time()
        await task
        over = time.time()
        await until(lambda: len(caplog.records) == 2, "both lines are there")
        watching.cancel()
        await until(ended, "the thread ends")
        return began, over

    began, over = run(main, kind)
    first, last = caplog.records
    assert (first.message, first.job, first.job_id) == (BLOCKED, "resize", "id-1")
    assert began < first.created < over
    assert 0.2 <= first.blocked_s < over - began
    assert first.stack[0].endswith(" block")
    assert __file__ in first.stack[0]
    assert first.stack[1].endswith(" handler")
    assert (last.message, last.job) == (ON, "resize")
    # Time in which the machine gave this process no turn is not counted.
    assert last.blocked_s >= first.blocked_s


def test_a_task_that_a_handler_made_is_of_its_job():
    """A TaskGroup in a handler: its context was inherited. Before Python 3.12 no task tells."""
    context = copy_context()
    job = plain_context("resize", "id-1")
    context.run(current_context.set, job)
    assert _inherited(SimpleNamespace(get_context=lambda: context)) is job
    assert _inherited(SimpleNamespace()) is None


def test_a_callback_of_nobody_is_told_by_its_stack(caplog):
    """No task runs; the stack says what does."""

    async def main():
        watching = asyncio.create_task(BlockedLoop(0.2, {}.get).run())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(block, 0.6)
        await until(lambda: len(caplog.records) == 2, "both lines are there")
        watching.cancel()

    run(main, "asyncio")
    assert not hasattr(caplog.records[0], "job")
    assert caplog.records[0].stack[0].endswith(" block")


def test_zero_is_off():
    """No thread, and nothing to wait for."""

    before = set(threading.enumerate())

    async def main():
        await asyncio.wait_for(BlockedLoop(0, {}.get).run(), 5)
        return set(threading.enumerate())

    assert run(main, "asyncio") <= before

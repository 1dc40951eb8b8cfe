"""`ctx.map`, in the kit: order, failures, retries, windows, and what reads the items."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest

from amqpjobs import (
    App,
    Context,
    Job,
    Reject,
    Retry,
    Selection,
)
from amqpjobs.errors import ConfigurationError, InvalidArguments, JobFailed

THRICE = Retry(attempts=3, jitter=False)


class Mapped:
    """An app whose durable job maps another one, and what that has run."""

    def __init__(self, items: Any, **options: Any) -> None:
        self.app = App("maps", retry=Retry(attempts=1))
        self.ran: Counter[int] = Counter()
        self.fails: set[int] = set()
        self.items, self.options = items, options

        @self.app.job(queue="numbers", retry=options.pop("retry", None), name="double")
        async def double(number: int) -> int:
            self.ran[number] += 1
            if number in self.fails:
                raise ValueError(f"no {number}")
            return number * 2

        @self.app.job(queue="maps", durable=True, keep_result=True, name="parent")
        async def parent(ctx: Context) -> list[Any]:
            given = self.items() if callable(self.items) else self.items
            results = await ctx.map("doubles", double, given, **self.options)
            return [str(each) if isinstance(each, Exception) else each for each in results]

        self.double: Job[[int], int, Awaitable[int]] = double
        self.parent: Job[[], list[Any], Awaitable[list[Any]]] = parent


@pytest.mark.parametrize("chunk", [1, 3, None])
async def test_results_come_in_the_order_of_the_items(chunk: int | None):
    """Whatever the chunks are, and in whatever order they end."""
    mapped = Mapped(range(20), chunk=chunk)
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        assert await handle.result() == [number * 2 for number in range(20)]
        assert set(mapped.ran.values()) == {1}


async def test_a_chunk_is_one_message():
    """Of the job, with a list of what its items have as bodies."""
    mapped = Mapped(range(10), chunk=4)
    async with mapped.app.testing() as t:
        await mapped.parent.later()
        await t.run_until_idle()
        assert len(t.runs(mapped.double)) == 3
        assert len(t.runs(mapped.parent)) == 2


async def test_no_items_are_an_empty_list_at_once():
    """The job is not even suspended."""
    mapped = Mapped([])
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        assert await handle.result() == []
        assert [ran.outcome for ran in t.runs()] == ["done"]


def numbers() -> Iterator[int]:
    yield from range(25)


async def numbers_later() -> AsyncIterator[int]:
    for number in range(25):
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("items", [numbers, numbers_later])
async def test_iterators_are_read_again_behind_what_was_sent(items: Any):
    """A window that is full suspends the job; it goes on when half of it is free."""
    mapped = Mapped(items, chunk=2, at_most=8)
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        assert await handle.result() == [number * 2 for number in range(25)]
        assert set(mapped.ran.values()) == {1}
        assert len(t.runs(mapped.parent)) > 3


async def test_many_items_are_sent_in_measured_chunks():
    """The first ones by themselves, then as many as take two seconds, in 32 shares at least."""
    mapped = Mapped(range(1000))
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        assert await handle.result() == [number * 2 for number in range(1000)]
        assert set(mapped.ran.values()) == {1}
        assert 32 < len(t.runs(mapped.double)) < 300


@pytest.mark.parametrize("chunk", [1, 4])
async def test_a_failed_item_fails_the_map(chunk: int):
    """The error names the item and its error; the job is not tried again for it."""
    mapped = Mapped(range(10), chunk=chunk)
    mapped.fails = {5}
    async with mapped.app.testing(raise_errors=False) as t:
        await mapped.parent.later()
        await t.run_until_idle()
        (dead,) = [each for each in t.dead() if each.job == "parent"]
        assert dead.message == "item 5: no 5"
        assert dead.error == "amqpjobs.errors.JobFailed"


async def test_failed_items_are_collected():
    """Their places have the errors."""
    mapped = Mapped(range(6), chunk=3, on_failure="collect")
    mapped.fails = {1, 4}
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        assert await handle.result() == [0, "no 1", 4, 6, "no 4", 10]


@pytest.mark.parametrize(("share", "fits"), [(0.5, True), (0.2, False)])
async def test_a_share_of_the_items_may_fail(share: float, fits: bool):
    """Their places are left out; one more, and the map has failed."""
    mapped = Mapped(numbers, chunk=3, on_failure=share)
    mapped.fails = set(range(0, 25, 3))
    async with mapped.app.testing(raise_errors=False) as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        if fits:
            assert await handle.result() == [n * 2 for n in range(25) if n % 3]
        else:
            assert "parent" in [dead.job for dead in t.dead()]


async def test_only_the_items_that_failed_run_again():
    """A retry of a chunk is one of those items."""
    mapped = Mapped(range(6), chunk=6, retry=THRICE)
    mapped.fails = {2, 3}
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        assert mapped.ran == Counter(range(6))
        mapped.fails = set()
        await t.advance(60)
        assert mapped.ran == Counter([*range(6), 2, 3])
        assert await handle.result() == [0, 2, 4, 6, 8, 10]


async def test_an_item_may_reject_itself():
    """Retries or not: the rest of its chunk goes on."""
    app = App("maps", retry=THRICE)

    @app.job(queue="numbers")
    async def even(number: int) -> int:
        if number % 2:
            raise Reject("odd")
        return number

    @app.job(queue="maps", durable=True, keep_result=True)
    async def parent(ctx: Context) -> list[bool]:
        found = await ctx.map("even", even, range(4), chunk=4, on_failure="collect")
        return [isinstance(each, JobFailed) and each.error == "rejected" for each in found]

    async with app.testing() as t:
        handle = await parent.later()
        await t.run_until_idle()
        assert await handle.result() == [False, True, False, True]


async def test_an_iterator_that_raises_fails_the_run_of_its_job():
    """What was sent is kept, and not sent again."""
    broken = True

    def items() -> Iterator[int]:
        yield from range(120)
        if broken:
            raise OSError("cut off")
        yield from range(120, 130)

    mapped = Mapped(items, chunk=1)
    async with mapped.app.testing(raise_errors=False) as t:
        await mapped.parent.with_options(retry=THRICE).later()
        await t.run_until_idle()
        assert t.runs(mapped.parent)[0].outcome == "retried"
        assert len(mapped.ran) == 100
        broken = False
        await t.advance(60)
        assert t.results(mapped.parent) == [[number * 2 for number in range(130)]]
        assert set(mapped.ran.values()) == {1}


async def test_a_wrong_item_is_found_before_it_is_sent():
    """By the annotation of the job."""
    mapped = Mapped(["one"])
    async with mapped.app.testing() as t:
        await mapped.parent.later()
        with pytest.raises(InvalidArguments):
            await t.run_until_idle()


async def test_maps_and_calls_run_side_by_side():
    """Also while one of them has items to send."""
    mapped = Mapped([])

    @mapped.app.job(queue="maps", durable=True, keep_result=True, name="both")
    async def both(ctx: Context) -> tuple[list[int], list[int], int]:
        return await asyncio.gather(
            ctx.map("a", mapped.double, range(30), chunk=2, at_most=4),
            ctx.map("b", mapped.double, numbers(), chunk=3, at_most=3),
            ctx.call("c", mapped.double, 7),
        )

    async with mapped.app.testing() as t:
        handle = await both.later()
        await t.run_until_idle()
        first, second, third = await handle.result()
        assert list(first) == [number * 2 for number in range(30)]
        assert list(second) == [number * 2 for number in range(25)]
        assert third == 14


async def test_a_name_that_leaves_no_room_for_those_of_reducing_steps_is_refused():
    """Before any item is run: those steps have the name of the map and more."""
    mapped = Mapped(range(3))

    @mapped.app.job(queue="sums")
    async def add(numbers: list[int]) -> int:
        return sum(numbers)

    @mapped.app.job(queue="maps", durable=True)
    async def total(ctx: Context, length: int) -> int:
        return await ctx.map("n" * length, mapped.double, range(3), reduce=add)

    async with mapped.app.testing() as t:
        await total.later(188)
        await t.run_until_idle()
        assert t.results(total) == [6]
        await total.later(189)
        with pytest.raises(ConfigurationError, match="188 characters at most"):
            await t.run_until_idle()
    assert mapped.ran.total() == 3


async def test_results_are_reduced_by_a_tree_of_jobs():
    """None of which is given more than 64 results."""
    mapped = Mapped([])
    given: list[int] = []

    @mapped.app.job(queue="numbers")
    async def add(numbers: list[int]) -> int:
        given.append(len(numbers))
        return sum(numbers)

    @mapped.app.job(queue="maps", durable=True, keep_result=True, name="total")
    async def total(ctx: Context, count: int) -> int:
        return await ctx.map("doubles", mapped.double, range(count), chunk=10, reduce=add)

    async with mapped.app.testing() as t:
        for count, groups in ((150, [64, 64, 22, 3]), (1, [1]), (0, [0])):
            given.clear()
            handle = await total.later(count)
            await t.run_until_idle()
            assert await handle.result() == count * (count - 1)
            assert given == groups


async def test_a_durable_job_can_be_mapped():
    """Each item is a job of its own, with steps of its own."""
    mapped = Mapped([])

    @mapped.app.job(queue="numbers", durable=True)
    async def quadruple(ctx: Context, number: int) -> int:
        return await ctx.call("twice", mapped.double, number) * 2

    @mapped.app.job(queue="maps", durable=True, keep_result=True, name="outer")
    async def outer(ctx: Context) -> list[int]:
        return await ctx.map("all", quadruple, range(5))

    async with mapped.app.testing() as t:
        handle = await outer.later()
        await t.run_until_idle()
        assert await handle.result() == [0, 4, 8, 12, 16]


prepared = list[str]()
broken = list[str]()


def prepare_numbers() -> None:
    """What workers are to call."""
    prepared.append("numbers")
    if broken:
        raise OSError(broken.pop())


async def test_a_worker_prepares_once_for_a_map():
    """Before its first item; again for another map."""
    prepared.clear()
    mapped = Mapped(range(12), chunk=3, prepare=prepare_numbers)
    async with mapped.app.testing() as t:
        for times in (1, 2):
            await mapped.parent.later()
            await t.run_until_idle()
            assert len(prepared) == times
        assert t.results(mapped.parent) == [[number * 2 for number in range(12)]] * 2


async def test_items_wait_where_a_worker_cannot_prepare():
    """No attempt is used; other workers may be able to."""
    prepared.clear()
    broken[:] = ["no memory"]
    mapped = Mapped(range(2), chunk=1, prepare=prepare_numbers, at_most=1)
    async with mapped.app.testing() as t:
        await mapped.parent.later()
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs(mapped.double)] == ["snoozed"]
        await t.advance(60)
        assert t.results(mapped.parent) == [[0, 2]]
        assert [ran.attempt for ran in t.runs(mapped.double)] == [1, 1, 1]


async def test_what_workers_could_not_find_is_no_preparation():
    """A lambda has no name in other processes."""
    mapped = Mapped(range(2), prepare=lambda: None)
    async with mapped.app.testing() as t:
        await mapped.parent.later()
        with pytest.raises(ConfigurationError, match="at the top of a module"):
            await t.run_until_idle()


@pytest.mark.parametrize(
    "options",
    [{"chunk": 0}, {"at_most": 0}, {"on_failure": 2}, {"on_failure": "ignore"}, {"stragglers": 1}],
)
async def test_options_that_mean_nothing_are_refused(options: dict[str, Any]):
    """Before anything is sent."""
    mapped = Mapped(range(2), **options)
    async with mapped.app.testing() as t:
        await mapped.parent.later()
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            await t.run_until_idle()
        assert not mapped.ran


async def test_a_map_says_how_far_it_is():
    """In the status of its job: of how many items, how many have failed, and how fast."""
    mapped = Mapped(range(10), chunk=2, at_most=4, on_failure="collect", retry=THRICE)
    mapped.fails = {0, 9}
    async with mapped.app.testing() as t:
        handle = await mapped.parent.later()
        await t.run_until_idle()
        await t.advance(0.5)
        status = await mapped.app.durable_status(handle.id)
        assert status is not None
        (step,) = status.steps
        assert step.progress is not None
        assert (step.progress.done, step.progress.failed, step.progress.total) == (8, 0, 10)
        assert step.progress.left == pytest.approx(step.progress.seconds / 4)
        assert str(step.progress).startswith("8 of 10 done, ")
        await t.advance(600)
        status = await mapped.app.durable_status(handle.id)
        assert status is not None
        (step,) = status.steps
        assert step.progress is not None
        assert str(step.progress).startswith("8 of 10 done, 2 failed, ")
        assert step.result == '{"done": 8, "failed": 2}'
        assert step.progress.left == 0


async def test_a_replay_keeps_a_map_that_is_done():
    """With its results; one that has failed begins anew."""
    mapped = Mapped([])
    mapped.fails = {5}

    @mapped.app.job(queue="maps", durable=True, name="two")
    async def two(ctx: Context) -> list[int]:
        first = await ctx.map("first", mapped.double, range(4), chunk=2)
        return first + await ctx.map("second", mapped.double, [4, 5, 6], chunk=2)

    async with mapped.app.testing(raise_errors=False) as t:
        await two.later()
        await t.run_until_idle()
        assert [dead.job for dead in t.dead()] == ["two"]
        mapped.fails = set()
        await mapped.app.dead_letters("maps").replay(Selection())
        await t.run_until_idle()
        assert t.results(two) == [[0, 2, 4, 6, 8, 10, 12]]
        assert [mapped.ran[number] for number in range(4)] == [1] * 4


async def test_each_item_is_run_as_a_job_is():
    """With middleware, a timeout and an id of its own, which stays the same when it is retried."""
    seen = list[tuple[str, int]]()

    async def note(call_next: Any, context: Context) -> object:
        seen.append((context.job_id, context.arguments["number"]))
        return await call_next(context)

    app = App("maps", retry=Retry(attempts=2))

    @app.job(queue="numbers", timeout=0.2, middleware=[note])
    async def hang(ctx: Context, number: int) -> int:
        if number == 1:
            await asyncio.Event().wait()
        return number

    @app.job(queue="maps", durable=True)
    async def parent(ctx: Context) -> list[str]:
        found = await ctx.map("all", hang, range(3), chunk=3, on_failure="collect")
        return [each.error if isinstance(each, JobFailed) else str(each) for each in found]

    async with app.testing(raise_errors=False) as t:
        await parent.later()
        await t.run_until_idle()
        await t.advance(60)
        assert t.results(parent) == [["0", "amqpjobs.errors.JobTimeout", "2"]]
    assert [number for _, number in seen] == [0, 1, 2, 1]
    ids = [job_id for job_id, _ in seen]
    assert ids[1] == ids[3]
    assert len(set(ids)) == 3


processes = App("processes", retry=Retry(attempts=1))


@processes.job(queue="numbers", cpu=True)
def halve(number: int) -> int:
    """What runs in a process."""
    return number // 2


@processes.job(queue="numbers")
def twice(number: int) -> int:
    """What runs in a thread."""
    return number * 2


@processes.job(queue="maps", durable=True)
async def both_ways(ctx: Context) -> list[list[int]]:
    """Maps both."""
    threads = await ctx.map("threads", twice, range(6), chunk=3)
    return [threads, await ctx.map("processes", halve, range(6), chunk=3)]


async def test_plain_functions_and_processes_are_mapped():
    """In threads, and in processes of their own."""
    async with processes.testing() as t:
        await both_ways.later()
        await t.run_until_idle(timeout=30)
        assert t.results(both_ways) == [[[0, 2, 4, 6, 8, 10], [0, 0, 1, 1, 2, 2]]]

"""`ctx.map`: sends items in chunks, a window at a time, and returns their results in order.

The job of a map feeds it: it sends chunks until the window is full, is suspended, and resumes when
half of them have ended. `amqpjobs.state.durable.chunk_rows` writes the rows. Changes when items are
sent, or results collected, in another way.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import ConfigurationError, JobFailed, StoreUnavailable
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durable.named import name_of
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.job import Job, definition_of
from amqpjobs.jobs.message.bodies import format_name
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.results import load_result
from amqpjobs.state.durable import items as of_items
from amqpjobs.state.durable import lines
from amqpjobs.state.durable.chunk_rows import Fed, feed_chunks, looked_at, page
from amqpjobs.state.durable.feed import ON_COLLECT, ON_RAISE, Feed
from amqpjobs.state.durable.packing import Packing
from amqpjobs.state.durable.rows import load
from amqpjobs.state.durable.sizing import LAST, Limits, Plan, is_single, plan
from amqpjobs.state.durable.values import ABANDONED, FAILED, FEEDING, MAP, WAITING, Failed, Step

if TYPE_CHECKING:
    from amqpjobs.jobs.message.family import Part
    from amqpjobs.state.durable.run import DurableRun

AT_ONCE = 50
"""Chunks that one transaction sends."""

SLICE = 600.0
"""Seconds after which a feeder is suspended and resumes in another run, since RabbitMQ limits how
long a delivery may be held."""

PAGE = 50
"""Chunks whose results are read at a time."""

LEVEL = "{} (reduce {})"
"""The name of a step that reduces, by that of the map."""

FAN_IN = 64
"""Results that one job of a tree makes one of."""


async def run_map(
    run: "DurableRun", name: str, job: Any, items: Any, options: Mapping[str, Any]
) -> Any:
    """See `Steps.map`."""
    of_items.check(name, items)
    limits, prepare = _limits(name, items, options), options["prepare"]
    feed = Feed(
        total=limits.total, by_items=limits.at_most is not None,
        on_failure=_on_failure(name, options["on_failure"]),
        prepare=None if prepare is None else name_of(f"prepare= of ctx.map({name!r})", prepare),
        stragglers=_stragglers(name, options["stragglers"]),
    )  # fmt: skip
    if prepare is not None and _definition(name, "what is mapped", job).kind == "process":
        raise ConfigurationError(
            f"ctx.map({name!r}): prepare= is called in the worker, and {job.name!r} has cpu=True: "
            "it runs in other processes, which prepare= does not reach. Prepare in a cached "
            "function that the job calls"
        )
    mapped = Map(run, name, job, limits, feed)
    reduce = options["reduce"]
    if reduce is not None:
        _check_reduce(name, reduce)
    await mapped.feed(items)
    if reduce is not None:
        return await _reduced(run, name, mapped, reduce)
    return [result async for result in mapped.results()]


def _limits(name: str, items: Any, options: Mapping[str, Any]) -> Limits:
    for option in ("at_most", "chunk"):
        given = options[option]
        if given is not None and (not isinstance(given, int) or given < 1):
            raise ConfigurationError(
                f"ctx.map({name!r}): {option}= must be an integer of at least 1, not {given!r}"
            )
    return Limits(options["at_most"], options["chunk"], of_items.total_of(items))


def _on_failure(name: str, given: Any) -> str | float:
    if given in (ON_RAISE, ON_COLLECT) and isinstance(given, str):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1:
        return float(given)
    raise ConfigurationError(
        f'ctx.map({name!r}): on_failure= must be "raise", "collect", or the share of items that '
        f"may fail, from 0 to 1, not {given!r}"
    )


def _stragglers(name: str, given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool) and given > 1:
        return float(given)
    raise ConfigurationError(
        f"ctx.map({name!r}): stragglers= must be a number above 1, such as 2.5, not {given!r}"
    )


def _definition(name: str, what: str, job: Any) -> Definition:
    if not isinstance(job, Job):
        raise ConfigurationError(f"ctx.map({name!r}): {what} must be a job, not {job!r}")
    return definition_of(job)


def _check_reduce(name: str, reduce: Any) -> None:
    """Before any item is sent."""
    if (body := _definition(name, "reduce=", reduce).body) is not None:
        raise ConfigurationError(
            f"ctx.map({name!r}): reduce= takes a list of results, which is JSON, and "
            f"{reduce.name} has body={format_name(body)}: leave that out"
        )
    longest = LONGEST_NAME - len(LEVEL.format("", 99))
    if len(name) > longest:
        raise ConfigurationError(
            f"ctx.map({name[:20]!r}...): with reduce=, its name has {longest} characters at most, "
            f"since the steps that reduce add theirs to it, and it has {len(name)}"
        )


async def _reduced(run: "DurableRun", name: str, mapped: "Map", reduce: Any) -> Any:
    """Make one result of all: jobs that take some results each, and jobs that take theirs."""
    level = 0
    while True:
        level += 1
        feed = Feed()
        step = LEVEL.format(name, level)
        tree = Map(run, step, reduce, Limits(chunk=1), feed, part="reduce")
        await tree.feed(_groups(mapped))
        if tree.sent == 1:
            return [result async for result in tree.results()][0]  # noqa: RUF015 - it is async
        mapped = tree


async def _groups(mapped: "Map") -> AsyncIterator[bytes]:
    """The results of a map, some at a time, as the arguments of a job. None at all is one group:
    what comes of nothing is for that job to say."""
    group: list[bytes] = []
    some = False
    async with aclosing(mapped.outcomes()) as outcomes:
        async for line in outcomes:
            if (result := lines.result_in(line)) is not None:
                group.append(result)
            if len(group) == FAN_IN:
                yield b"[" + b",".join(group) + b"]"
                group, some = [], True
    if group or not some:
        yield b"[" + b",".join(group) + b"]"


class Map:
    """One map in one run of its job.

    Args:
        run: of the job.
        name: of the map.
        job: for each item.
        limits: what the handler has asked for.
        feed: how a map begins that was not begun before.
        part: what its messages are; None for chunks, or items where those are single.
    """

    def __init__(
        self,
        run: "DurableRun",
        name: str,
        job: Any,
        limits: Limits,
        feed: Feed,
        part: "Part | None" = None,
    ) -> None:
        self._run = run
        self._name = name
        self._definition = _definition(name, "what is mapped", job)
        if is_single(self._definition):
            limits = replace(limits, chunk=1)
        self._limits = limits
        self._packing = Packing(run, name, job, part or ("item" if limits.chunk == 1 else "chunk"))
        self._began = time.monotonic()
        run.ask(name, MAP)
        known = run.known.get(name)
        self._step = known or Step(
            name, MAP, run.number(None), FEEDING, cursor=feed.text(), awaited=True,
            child=self._definition.name,
        )  # fmt: skip

    @property
    def _feed(self) -> Feed:
        return Feed.of_text(self._step.cursor)

    @property
    def sent(self) -> int:
        """How many items were sent."""
        return self._feed.sent

    async def feed(self, items: Any) -> None:
        """Send what was not sent yet, and wait until all items have ended.

        Args:
            items: also the bodies of messages, as bytes.

        Raises:
            JobFailed: too many have failed.
            Suspend: the map resumes in a later run.
            Exception: what reading the items raises.
        """
        run, name = self._run, self._name
        if name not in run.known:
            await run.write(self._step)
        self._step = run.known[name]
        # One for the whole run: an iterator cannot be read from its beginning again.
        async with aclosing(of_items.items_from(items, self._feed.sent)) as source:
            while self._step.state in (FEEDING, WAITING):
                if not self._feed.sealed:
                    run.maps.add(name)
                if self._step.state == FEEDING:
                    await self._send(source)
                else:
                    self._step = await run.result_of(name)
        run.maps.discard(name)
        if self._step.state == FAILED:
            raise run.failed(self._step)

    async def _send(self, source: AsyncIterator[Any]) -> None:
        """Send chunks until enough of them wait, or all were sent."""
        left, times = await self._look()
        while self._step.state == FEEDING:
            self._check()
            planned = plan(self._limits, self._feed.sent, times)
            most = min(AT_ONCE, max(0, (planned.room - left) // planned.unit))
            left = await self._fill(source, planned, most)
            if self._limits.measures and self._step.state == FEEDING:
                left, times = await self._look()

    async def _look(self) -> tuple[int, list[float]]:
        found: tuple[int, list[float]] = await self._stored(
            looked_at, self._run.owner, self._name, self._feed, LAST
        )
        return found

    def _check(self) -> None:
        """Between two transactions: the job is left if it is to stop, or has run for long.

        Raises:
            Suspend: the map resumes in another worker, or later.
        """
        run = self._run
        long = time.monotonic() - self._began > SLICE
        if run.suspending or run.context.stopping.is_set() or long:
            if not run.suspending:
                run.leave()
                run.waits = ()
            raise Suspend(self._name)

    async def _fill(self, source: AsyncIterator[Any], planned: Plan, most: int) -> int:
        """Send some chunks; returns how much has not ended."""
        run, before = self._run, self._feed
        new, ended = await self._packing.pack(source, before, planned.size, most)
        after = replace(
            before, sent=before.sent + sum(each.count for each in new),
            chunks=before.chunks + len(new), low=planned.low,
        )  # fmt: skip
        after = replace(after, sealed=ended or after.sent == after.total)
        fed: Fed | None = await self._stored(
            feed_chunks, run.owner, run.token, self._name, before, after, new, planned.full,
            run.shared.now,
        )  # fmt: skip
        if fed is None:
            await self._reload(before)
            return 0
        self._step = replace(self._step, state=fed.state, cursor=after.text())
        run.known[self._name] = self._step
        if fed.state == FAILED:
            await self._reload(before)
        return fed.in_flight

    async def _reload(self, before: Feed) -> None:
        """Something else has changed the map: see what.

        Raises:
            Suspend: a newer run of the job has begun.
        """
        run = self._run
        found = await self._stored(load, run.owner, [self._name])
        step = found.get(self._name)
        same = step is not None and step.state == FEEDING and step.cursor == before.text()
        if step is None or same or step.state == ABANDONED:
            run.supersede()
        self._step = run.known[self._name] = step

    async def _stored(self, function: Any, *args: Any) -> Any:
        """Do something in the store.

        Raises:
            Suspend: that is away; the job waits on its queue.
        """
        run = self._run
        try:
            return await run.shared.groups.run(run.owner.job_id, function, *args)
        except StoreUnavailable as error:
            run.unstored = error
            run.leave()
            raise Suspend(self._name) from None

    async def outcomes(self) -> AsyncGenerator[bytes, None]:
        """The lines of all items, in order; few of them are in memory."""
        last = -1
        while rows := await self._stored(page, self._run.owner, self._name, last, PAGE):
            for n, column in rows:
                last = n
                for line in column.split(b"\n"):
                    yield line

    async def results(self) -> AsyncIterator[Any]:
        """What all items have returned, in order; for those that have failed their error, or
        nothing.

        Raises:
            InvalidResult: it is not what the annotation of this release allows.
        """
        collect = self._feed.on_failure == ON_COLLECT
        async for line in self.outcomes():
            if (result := lines.result_in(line)) is not None:
                yield load_result(self._definition, result)
            elif collect and (error := lines.error_in(line)) is not None:
                yield self._failed(error)

    def _failed(self, error: Failed) -> JobFailed:
        return JobFailed(
            error.message, error=error.error, job=error.job or self._definition.name,
            attempt=error.attempt, job_id=error.job_id,
        )  # fmt: skip

"""The rows of maps, on both databases: what comes twice, or at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import Settings
from amqpjobs.state.durable.chunk_rows import (
    Fed,
    NewChunk,
    Ran,
    begin_chunk,
    end_chunk,
    feed_chunks,
    page,
)
from amqpjobs.state.durable.ends import finish, suspend
from amqpjobs.state.durable.feed import Feed
from amqpjobs.state.durable.lines import OPEN, done, failed
from amqpjobs.state.durable.rows import Beginning, Begun, Owner, begin, load, put
from amqpjobs.state.durable.stragglers import repeat_slow, sealed_maps
from amqpjobs.state.durable.values import DONE, FAILED, FEEDING, MAP, WAITING, Ended, Step
from amqpjobs.state.durable.values import Failed as Why
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from amqpjobs.state.store.tables import chunks, outbox

OWNER = Owner("shop", "parent", 0)
MESSAGE = Prepared("parent", "total", "totals", Properties(type="total"), b"{}")


class Maps:
    """One durable job that maps something.

    Args:
        store: where.
    """

    def __init__(self, store: DurableStore) -> None:
        self.store = store
        self.token = 0
        self.feed = Feed()

    async def begin(self) -> dict[str, Step]:
        """Begin a run of it."""
        begun = await self.store.run(begin, Beginning(OWNER, "total", "totals"), self.store.now)
        assert isinstance(begun, Begun)
        self.token = begun.token
        return begun.steps

    async def start(self, feed: Feed) -> None:
        """Begin the map."""
        self.feed = feed
        step = Step("m", MAP, 1, FEEDING, cursor=feed.text(), awaited=True)
        await self.store.run(put, OWNER, self.token, step, self.store.now)

    async def send(
        self, *sizes: int, sealed: bool = False, window: int = 100, low: int = 0
    ) -> Fed | None:
        """Send chunks of so many items."""
        before, new = self.feed, list[NewChunk]()
        after = replace(before, sealed=sealed, low=low)
        for size in sizes:
            message = Prepared(f"c{after.chunks}", "one", "ones", Properties(type="one"), b"[]")
            new.append(NewChunk(after.chunks, after.sent, size, message))
            after = replace(after, sent=after.sent + size, chunks=after.chunks + 1)
        fed = await self.store.run(
            feed_chunks, OWNER, self.token, "m", before, after, new, window, self.store.now
        )
        if fed is not None:
            self.feed = after
        return fed

    async def end(self, n: int, *lines: bytes, rest: Why | None = None) -> int:
        """End a chunk; returns how often its job was sent again."""
        told = await self.store.run(
            end_chunk, "shop", Family("parent", 0, "m", "chunk", n), f"c{n}",
            Ran(lines, rest, 1.0), self.store.now,
        )  # fmt: skip
        return told.woken

    async def suspend(self, *names: str, maps: Sequence[str] = ()) -> int:
        """Leave the run; returns whether it goes on at once."""
        told = await self.store.run(
            suspend, OWNER, self.token, names, MESSAGE, self.store.now, maps
        )
        assert told is not None
        return told.woken

    async def step(self) -> Step:
        """The step of the map."""
        return (await self.store.run(load, OWNER))["m"]

    async def sent_again(self) -> int:
        """How often the job was sent again."""
        query = select(func.count()).select_from(outbox).where(outbox.c.job_id == "parent")
        return int(await self.store.run(lambda connection: connection.scalar(query) or 0))


@pytest.fixture
async def maps(settings: Settings) -> AsyncIterator[Maps]:
    """A durable job that runs."""
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    store = await DurableStore(settings).open()
    made = Maps(store)
    await made.begin()
    yield made
    await store.close()


ONE, TWO = done(b"1"), done(b"2")
BAD = failed(Why("ValueError", "bad", "one", "item", 1))


async def test_a_chunk_that_ends_twice_counts_once(maps: Maps) -> None:
    """The first result counts, and the job is woken once."""
    await maps.start(Feed())
    await maps.send(1, 1, sealed=True)
    await maps.suspend("m")
    assert await maps.end(0, ONE) == 0
    assert await maps.end(0, TWO) == 0
    assert await maps.end(1, TWO) == 1
    assert await maps.end(1, ONE) == 0
    assert await maps.store.run(page, OWNER, "m", -1, 10) == [(0, ONE), (1, TWO)]
    assert (await maps.step()).state == DONE
    assert await maps.sent_again() == 1


async def test_what_two_runs_of_a_chunk_have_done_comes_together(maps: Maps) -> None:
    """An item that is done stays done; the chunk ends with its last item."""
    await maps.start(Feed())
    await maps.send(3, sealed=True)
    await maps.end(0, ONE, OPEN, OPEN)
    family = Family("parent", 0, "m", "chunk", 0)
    wanted = await maps.store.run(begin_chunk, "shop", family, "c0", maps.store.now)
    assert wanted is not None
    assert wanted.lines == [ONE, OPEN, OPEN]
    await maps.end(0, TWO, TWO, OPEN)
    assert (await maps.step()).state == WAITING
    await maps.end(0, OPEN, OPEN, ONE)
    assert await maps.store.run(page, OWNER, "m", -1, 10) == [(0, b"\n".join([ONE, TWO, ONE]))]
    assert (await maps.step()).state == DONE
    assert await maps.store.run(begin_chunk, "shop", family, "c0", maps.store.now) is None


async def test_all_chunks_ended_is_not_all_items_sent(maps: Maps) -> None:
    """A map is complete when it is sealed, and not before."""
    await maps.start(Feed())
    await maps.send(1)
    await maps.end(0, ONE)
    assert (await maps.step()).state == FEEDING
    await maps.send(sealed=True)
    assert (await maps.step()).state == DONE


async def test_the_job_is_woken_when_its_window_has_room(maps: Maps) -> None:
    """Once, whatever else it waits for; and at once, if there was room before it was left."""
    await maps.start(Feed())
    fed = await maps.send(1, 1, 1, 1, window=4, low=2)
    assert fed == Fed(WAITING, 4)
    assert await maps.suspend("m", maps=["m"]) == 0
    assert [await maps.end(n, ONE) for n in range(3)] == [0, 1, 0]
    await maps.begin()
    assert (await maps.step()).state == FEEDING
    await maps.send(1, 1, 1, window=4, low=2)
    assert [await maps.end(n, ONE) for n in (3, 4)] == [0, 0]  # it runs
    assert await maps.suspend("m", maps=["m"]) == 1


async def test_a_feeder_that_is_superseded_sends_nothing(maps: Maps) -> None:
    """Nor does one that sends what was sent."""
    await maps.start(Feed())
    assert await maps.send(1) is not None
    known, maps.feed = maps.feed, Feed()
    assert await maps.send(1) is None
    maps.feed, maps.token = known, maps.token - 1
    assert await maps.send(1) is None
    assert len(await maps.store.run(page, OWNER, "m", -1, 10)) == 1


async def test_a_failed_item_ends_the_map_and_the_chunks_that_wait(maps: Maps) -> None:
    """Workers drop what they still get of it."""
    await maps.start(Feed())
    await maps.send(2, 1, sealed=True)
    await maps.suspend("m")
    assert await maps.end(0, ONE, BAD) == 1
    step = await maps.step()
    assert step.state == FAILED
    assert step.error is not None
    assert step.error.message == "item 1: bad"
    family = Family("parent", 0, "m", "chunk", 1)
    assert await maps.store.run(begin_chunk, "shop", family, "c1", maps.store.now) is None
    assert await maps.end(1, ONE) == 0


async def test_a_chunk_that_fails_as_a_whole_fails_its_open_items(maps: Maps) -> None:
    """Those that were done stay done."""
    await maps.start(Feed(on_failure="collect"))
    await maps.send(2, sealed=True)
    await maps.end(0, ONE, OPEN)
    await maps.end(0, rest=Why("poison", "it killed its worker"))
    ((_, column),) = await maps.store.run(page, OWNER, "m", -1, 10)
    assert column.split(b"\n")[0] == ONE
    assert b"it killed its worker" in column.split(b"\n")[1]
    assert (await maps.step()).state == DONE


async def test_chunks_of_a_job_that_has_ended_are_dropped(maps: Maps) -> None:
    """Whatever it waited for."""
    await maps.start(Feed())
    await maps.send(1, 1)
    ended = Ended(error=Why("ValueError", "no"))
    await maps.store.run(
        lambda connection: finish(connection, OWNER, maps.token, ended, maps.store.now, job="total")
    )
    family = Family("parent", 0, "m", "chunk", 0)
    assert await maps.store.run(begin_chunk, "shop", family, "c0", maps.store.now) is None
    assert await maps.end(0, ONE) == 0


async def test_of_last_chunks_that_end_at_once_one_wakes_the_job(maps: Maps) -> None:
    """However many there are at a time, in one process or several."""
    await maps.start(Feed())
    for number in range(20):
        if number:
            await maps.begin()
        fed = await maps.send(1, 1, 1, 1, window=4, low=0)
        assert fed is not None
        await maps.suspend("m", maps=["m"])
        first = number * 4
        woken = await asyncio.gather(*(maps.end(first + n, ONE) for n in range(4)))
        assert sum(woken) == 1, f"round {number}"


async def test_slow_chunks_are_sent_a_second_time(maps: Maps) -> None:
    """When three quarters have ended, and one takes so many times as long; once, as another copy of
    the same job. The first result counts."""
    await maps.start(Feed(stragglers=2.5))
    await maps.send(*[2] * 8, sealed=True)
    store = maps.store
    for n in range(8):
        family = Family("parent", 0, "m", "chunk", n)
        await store.run(begin_chunk, "shop", family, f"c{n}", store.now)

    async def age(n: int, seconds: float) -> None:
        """A chunk has begun so long ago."""
        change = update(chunks).where(chunks.c.n == n).values(begun_at=store.now - seconds)
        await store.run(lambda connection: connection.execute(change).rowcount)

    async def repeat() -> int:
        found = await store.run(sealed_maps, "shop")
        assert [(name, factor) for _, name, _, factor in found] == [("m", 2.5)]
        return await store.run(repeat_slow, OWNER, "m", "one", 2.5, store.now)

    for n in range(6):
        assert await repeat() == 0
        await age(n, 10)
        await maps.end(n, ONE, TWO)
    await age(6, 24)
    await age(7, 26)
    assert await repeat() == 1
    assert await repeat() == 0
    query = select(outbox).where(outbox.c.job_id == "c7").order_by(outbox.c.id)
    first, second = await store.run(lambda connection: connection.execute(query).all())
    assert (first.body, first.job, first.routing_key) == (b"[]", "one", "ones")
    assert (second.body, second.job, second.routing_key) == (b"[]", "one", "ones")
    assert first.properties != second.properties
    await maps.end(7, ONE, ONE)
    await maps.end(7, TWO, TWO)
    await maps.end(6, ONE, ONE)
    assert (await maps.step()).state == DONE

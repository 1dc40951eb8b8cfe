"""Slots, and what waits for them, on both databases."""

import asyncio
from typing import Any

from sqlalchemy import func, select, update

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.limits.claims import Claim, claim, is_claimed
from amqpjobs.state.limits.places import Hold, Holder, Want, renew
from amqpjobs.state.limits.turn import Busy, Ending, Fate, Starting, Taken, turn
from amqpjobs.state.outbox.rows import message_of
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.tables import outbox, slots, waiting

ONE = (Want("shop:limit:a"),)


def starting(job_id: str, wants: tuple[Want, ...] = ONE, **holder: Any) -> Starting:
    def message() -> Prepared:
        headers = {"amqpjobs-copy": f"{job_id}.waits"}
        return Prepared(job_id, "j", "q", Properties(headers=headers, message_id=job_id), b"1")

    return Starting(Holder(job_id, "j", worker="w", **holder), wants, message)


def ended(fate: Fate, job_id: str) -> Ending:
    assert isinstance(fate, Taken)
    return Ending(fate.holds, (), job_id)


async def turned(
    store: DurableStore, *jobs: Starting, ends: tuple[Ending, ...] = ()
) -> tuple[list[Fate], int]:
    return await store.run(turn, "shop", store.now, ends, jobs)


async def take(store: DurableStore, *jobs: Starting) -> list[Fate]:
    return (await turned(store, *jobs))[0]


async def sent(store: DurableStore) -> list[str]:
    """The ids in the outbox."""
    rows = await store.run(lambda c: c.execute(select(outbox).order_by(outbox.c.id)).all())
    assert all(message_of(row).due is None for row in rows)
    return [row.job_id for row in rows]


async def count(store: DurableStore, table: Any = waiting) -> int:
    return await store.run(lambda c: c.scalar(select(func.count()).select_from(table)) or 0)


async def test_one_runs_and_the_next_waits_and_is_woken(durable: DurableStore) -> None:
    """Its slot is kept for it until its message is there; nobody else gets it meanwhile."""
    one, two = await take(durable, starting("1"), starting("2"))
    assert isinstance(one, Taken)
    assert isinstance(two, Busy)
    assert two.waits
    fates, woken = await turned(durable, starting("3"), ends=(ended(one, "1"),))
    assert woken == 1
    assert isinstance(fates[0], Busy)
    assert await sent(durable) == ["2"]
    [own] = await take(durable, starting("2", copy="2.waits"))
    assert isinstance(own, Taken)
    assert own.holds[0].token > one.holds[0].token
    assert await count(durable) == 1  # the third


async def test_the_same_message_takes_its_slot_over_at_once(durable: DurableStore) -> None:
    """Its worker died: RabbitMQ delivers it again. What the zombie gives up then is not its own."""
    [one] = await take(durable, starting("1"))
    [again] = await take(durable, starting("1", again=True))
    assert isinstance(one, Taken)
    assert isinstance(again, Taken)
    assert again.holds[0].token == one.holds[0].token + 1
    await turned(durable, ends=(ended(one, "1"),))
    [other] = await take(durable, starting("2"))
    assert isinstance(other, Busy)
    assert await durable.run(renew, durable.now, list(one.holds)) == list(one.holds)
    assert await durable.run(renew, durable.now, list(again.holds)) == []


async def test_a_duplicate_waits_and_so_does_a_retry_of_it(durable: DurableStore) -> None:
    """It has the same id, and another line of tokens; a later attempt of the one that holds the
    slot, though, takes it over, if its worker could not give it up."""
    [first] = await take(durable, starting("1", attempt=1))
    [duplicate] = await take(durable, starting("1", copy="x", attempt=1))
    assert isinstance(duplicate, Busy)
    [retried] = await take(durable, starting("1", copy="x.y", attempt=2))
    assert isinstance(retried, Busy)
    [earlier] = await take(durable, starting("1", copy=".z", attempt=0))
    assert isinstance(earlier, Busy)
    [later] = await take(durable, starting("1", copy=".z", attempt=2))
    assert isinstance(later, Taken)
    assert isinstance(first, Taken)
    assert later.holds[0].token > first.holds[0].token


async def test_all_or_nothing(durable: DurableStore) -> None:
    """One that cannot have all holds none; what was kept for it wakes the next."""
    a, b = Want("shop:limit:a"), Want("shop:limit:b")
    held = await take(durable, starting("b", (b,)), starting("both", (a, b)), starting("a", (a,)))
    assert [type(fate) for fate in held] == [Taken, Busy, Taken]
    waits = starting("2", (a,))
    assert isinstance((await take(durable, waits))[0], Busy)
    # `both` is woken for b, and a is busy now: it gives b up, and waits for a.
    await turned(durable, ends=(ended(held[0], "b"),))
    assert await sent(durable) == ["both"]
    fates = await take(durable, starting("both", (a, b), copy="both.waits"), starting("b2", (b,)))
    assert [type(fate) for fate in fates] == [Busy, Taken]
    await turned(durable, ends=(ended(held[2], "a"),))
    assert await sent(durable) == ["both", "2"]


async def test_skip_is_not_run_and_replace_names_whom(durable: DurableStore) -> None:
    """Nothing waits of what is skipped."""
    skip, replace = Want("k", when_busy="skip"), Want("k", when_busy="replace")
    await take(durable, starting("1", (skip,)))
    [skipped] = await take(durable, starting("2", (skip,)))
    assert isinstance(skipped, Busy)
    assert not skipped.waits
    assert await count(durable) == 0
    [second] = await take(durable, starting("2", (replace,)))
    [third] = await take(durable, starting("3", (replace,)))
    assert isinstance(second, Busy)
    assert isinstance(third, Busy)
    assert second.replaces == ("1",)
    assert third.replaces == ("1", "2")
    assert await count(durable) == 2


async def test_a_lost_ack_does_not_make_it_wait_twice(durable: DurableStore) -> None:
    """It is known by its token."""
    await take(durable, starting("1"), starting("2"))
    [again] = await take(durable, starting("2", again=True))
    assert isinstance(again, Busy)
    assert again.doubled
    assert await count(durable) == 1


async def test_a_slot_whose_lease_is_over_is_free(durable: DurableStore) -> None:
    """Its message is gone with its worker."""
    [one] = await take(durable, starting("1"))
    await durable.run(lambda c: c.execute(update(slots).values(expires_at=durable.now - 1)))
    [two] = await take(durable, starting("2"))
    assert isinstance(one, Taken)
    assert isinstance(two, Taken)
    assert two.holds[0].token == one.holds[0].token + 1


async def test_a_job_that_ends_before_it_took_what_was_kept_for_it(durable: DurableStore) -> None:
    """Gives it up, and the next is woken."""
    one, *_ = await take(durable, starting("1"), starting("2"), starting("3"))
    await turned(durable, ends=(ended(one, "1"),))
    gone = Ending((), (ONE[0].key,), "2", "2.waits", over=True)
    _, woken = await turned(durable, ends=(gone,))
    assert woken == 1
    assert await sent(durable) == ["2", "3"]


async def test_claims_begin_and_end_with_runs(durable: DurableStore) -> None:
    """A run claims what is free, and leaves what another job has."""
    job = starting("1", ())
    wanted = Claim("shop:unique:j:7", "j", "1", 60.0)
    await take(durable, Starting(job.holder, (), job.message, claim=wanted))
    other = Claim("shop:unique:j:7", "j", "2", 60.0)
    assert await durable.run(claim, "shop", other, durable.now) == "1"
    await turned(durable, ends=(Ending((), (), "1", over=True),))
    assert not await durable.run(is_claimed, wanted.key, durable.now)
    assert await durable.run(claim, "shop", other, durable.now) is None
    await durable.run(claim, "shop", Claim("short", "j", "3", -1.0), durable.now)
    assert await durable.run(claim, "shop", Claim("short", "j", "4", 9.0), durable.now) is None


async def test_never_more_than_the_limit_however_many_race(durable: DurableStore) -> None:
    """Tokens rise; all that wait are woken in the end."""
    limit = (Want("shop:limit:three", places=3),)
    running: dict[str, Hold] = {}
    tokens: list[int] = []
    most = 0

    async def run(job_id: str, copy: str = "") -> None:
        nonlocal most
        [fate] = await take(durable, starting(job_id, limit, copy=copy))
        if isinstance(fate, Busy):
            return
        running[job_id] = fate.holds[0]
        most = max(most, len(running))
        tokens.append(fate.holds[0].token)
        await asyncio.sleep(0)
        del running[job_id]
        await turned(durable, ends=(ended(fate, job_id),))

    await asyncio.gather(*(run(str(n)) for n in range(20)))
    done = 0
    while done < (woken := len(await sent(durable))):
        ids = (await sent(durable))[done:]
        done = woken
        await asyncio.gather(*(run(each, f"{each}.waits") for each in ids))
    assert most <= 3
    assert len(tokens) == len(set(tokens)) == 20
    assert await count(durable) == 0

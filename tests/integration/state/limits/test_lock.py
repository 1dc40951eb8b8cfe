"""`App.lock` on both databases."""

import asyncio
import threading

import pytest
from sqlalchemy import update

from amqpjobs import App
from amqpjobs.errors import ConfigurationError, LockTimeout
from amqpjobs.settings import Settings
from amqpjobs.state.memory import memory_of
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.tables import slots


@pytest.fixture
async def app(durable: DurableStore, settings: Settings) -> App:
    return App("shop", settings=settings)


async def test_one_holds_it_and_tokens_rise(app: App) -> None:
    """Whatever comes of the block."""
    inside = 0
    tokens: list[int] = []

    async def hold(n: int) -> None:
        nonlocal inside
        async with app.lock("invoice:7") as lock:
            inside += 1
            assert inside == 1
            tokens.append(lock.token)
            assert await lock.still_mine()
            await asyncio.sleep(0.005)
            inside -= 1
            if n % 2:
                raise KeyError(n)

    await asyncio.gather(*(hold(n) for n in range(8)), return_exceptions=True)
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 8
    await memory_of(app.client).close()


async def test_it_is_waited_for_and_not_for_ever(app: App) -> None:
    """Another name is another lock; one that is not held has no token."""
    lock = app.lock("a", timeout=0.2)
    with pytest.raises(ConfigurationError, match="not held"):
        _ = lock.token
    async with app.lock("a"), app.lock("b"):
        with pytest.raises(LockTimeout, match="'a' was not free within 0.2 s"):
            await lock.__aenter__()
    async with lock:
        assert lock.token == 2
    with pytest.raises(ConfigurationError, match="name of a lock"):
        app.lock("")
    with pytest.raises(ConfigurationError, match="lease"):
        app.lock("a", lease=0)
    await memory_of(app.client).close()


async def test_a_lock_whose_lease_is_over_is_lost(
    app: App, durable: DurableStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Its holder was frozen; what it gives up then is not its own."""
    async with app.lock("a", lease=60) as zombie:
        await durable.run(lambda c: c.execute(update(slots).values(expires_at=1.0)))
        assert not await zombie.still_mine()
        successor = app.lock("a")
        await successor.__aenter__()
        assert successor.token > zombie.token
    assert await successor.still_mine()
    await successor.__aexit__(None, None, None)
    await memory_of(app.client).close()


async def test_it_is_renewed_while_it_is_held(app: App) -> None:
    """For as long as its process lives."""
    async with app.lock("a", lease=0.6) as lock:
        for _ in range(4):
            with pytest.raises(LockTimeout):
                await app.lock("a", timeout=0.25).__aenter__()
        assert await lock.still_mine()
    await memory_of(app.client).close()


async def test_a_taker_that_is_cancelled_holds_nothing(app: App) -> None:
    """Even if it had just got it."""
    for _ in range(10):
        taking = asyncio.create_task(app.lock("a").__aenter__())
        await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait([taking])
        if not taking.cancelled():
            await taking.result().__aexit__(None, None, None)
    async with app.lock("a", timeout=5):
        pass
    await memory_of(app.client).close()


def test_in_synchronous_code() -> None:
    """By a blocking client, in threads. The kit has a store of its own."""
    app = App("shop", settings=Settings(url="amqp://nowhere.invalid"))
    tokens: list[int] = []

    def work(client: object) -> None:
        with client.lock("a") as lock:  # type: ignore[attr-defined]
            tokens.append(lock.token)
            assert lock.still_mine()

    def all_of_them() -> None:
        with app.blocking() as client:
            threads = [threading.Thread(target=work, args=(client,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    async def main() -> None:
        async with app.testing():
            await asyncio.to_thread(all_of_them)

    asyncio.run(main())
    assert sorted(tokens) == [1, 2, 3, 4]

"""F17 and F18: whatever stands in a message, the worker lives, and no message gets lost."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest

from tests.faults.fleet import ROOT, Fleet, WorkerProcess, until
from tests.faults.hostile import Hostile, bodies, refused, strange_properties
from tests.faults.ledger import Ledger
from tests.faults.publishing import leftovers, publishing
from tests.faults.stranger import Refused, Stranger
from tests.support.brokers.broker_server import VirtualHost

LIVES = ("work", "echo", "other")


def outcomes(worker: WorkerProcess) -> Counter[str]:
    """How many deliveries ended, and how."""
    lines = (line for line in worker.lines() if line["event"].startswith("job "))
    return Counter(str(line["outcome"]) for line in lines)


def post(url: str, messages: Iterable[Hostile]) -> None:
    """Publish all of them; the broker takes each."""
    refused, stranger = [], Stranger(url)
    for message in messages:
        try:
            stranger.publish(message.queue, message.body, message.properties)
        except (Refused, OSError) as refusal:
            refused.append(f"{message.name}: {refusal}")
            stranger = Stranger(url)
    stranger.close()
    assert not refused


async def face(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, messages: list[Hostile], timeout: float
) -> WorkerProcess:
    """Publish, let one worker see all of it, stop it."""
    worker = await workers.start(broker.url)
    await asyncio.to_thread(post, broker.url, messages)
    ledger.fault(f"{len(messages)} hostile messages confirmed", len(messages))
    await until(
        lambda: sum(outcomes(worker).values()) >= len(messages),
        timeout,
        f"{len(messages)} messages settled",
    )
    # It still works.
    async with publishing(broker.url, ledger) as publisher:
        assert await publisher.send(publisher.jobs.work.message(1)) is None
        await publisher.all_done(10)
    await workers.stop()
    assert not leftovers(broker.url, LIVES)
    assert not workers.trouble()
    return worker


def found(broker: VirtualHost, queues: Iterable[str]) -> list[bytes]:
    with Stranger(broker.url) as stranger:
        return [body for queue in queues for _, body in stranger.drain(queue)]


def check_fates(
    broker: VirtualHost, worker: WorkerProcess, messages: list[Hostile], fated: str
) -> None:
    """Bodies that had to be put aside are there, byte for byte, and no others."""
    suffix = {"dead": "dead", "parked": "parked"}[fated]
    expected = Counter(m.body for m in messages if m.fate == (fated,))
    there = Counter(found(broker, [f"{queue}.{suffix}" for queue in LIVES]))
    by_body = {m.body: m.name for m in messages}
    missing = [by_body.get(body, body[:50]) for body in (expected - there)]
    surplus = [by_body.get(body, body[:50]) for body in (there - expected)]
    assert (missing, surplus) == ([], []), fated


async def check_hostile(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, messages: list[Hostile]
) -> None:
    worker = await face(broker, workers, ledger, messages, 60)
    for fated in ("dead", "parked"):
        check_fates(broker, worker, messages, fated)
    done = sum(m.fate == ("done",) for m in messages)
    assert len(ledger.effects()) == done + 1
    assert outcomes(worker)["expired"] == sum(m.fate == ("dropped",) for m in messages)
    ledger.counted(len(messages))


@pytest.mark.row("F17")
@pytest.mark.parametrize(
    "heavy", [False, pytest.param(True, marks=[pytest.mark.faults_full, pytest.mark.timeout(600)])]
)
async def test_no_body_kills_a_worker(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, heavy: bool
) -> None:
    """F17: every one is done, dead-lettered or parked, with its bytes unchanged."""
    await check_hostile(broker, workers, ledger, list(bodies(random, heavy=heavy)))


@pytest.mark.row("F18")
async def test_no_property_kills_a_worker(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """F18: every one is done or dead-lettered, its bytes unchanged; one is past its deadline."""
    await check_hostile(broker, workers, ledger, list(strange_properties(random)))


async def test_what_the_broker_lets_through_does_no_harm(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """Properties that the broker may refuse, by its version: what it takes ends somewhere."""
    taken = []
    worker = await workers.start(broker.url)
    for number, (name, properties) in enumerate(refused(random)):
        body = b'{"refused": %d}' % number
        try:
            with Stranger(broker.url) as stranger:
                stranger.publish("echo", body, properties)
        except (Refused, OSError) as refusal:
            ledger.tell(f"{name}: {refusal}")
        else:
            taken.append((name, body))
            ledger.tell(f"{name}: taken")
    await until(lambda: sum(outcomes(worker).values()) >= len(taken), 30, f"settled: {taken}")
    async with publishing(broker.url, ledger) as publisher:
        assert await publisher.send(publisher.jobs.work.message(1)) is None
        await publisher.all_done(10)
    await workers.stop()
    assert not leftovers(broker.url, LIVES)
    assert not workers.trouble()
    put_aside = found(broker, ["echo.dead", "echo.parked"])
    assert set(put_aside) <= {body for _, body in taken}
    assert len(ledger.effects()) - 1 + len(put_aside) == len(taken)


async def test_parked_noise_does_no_harm_to_the_next_worker(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """A worker that starts looks through the parked jobs: what nobody knows stays there."""
    messages = [m for m in bodies(random, heavy=False) if m.fate == ("parked",)]
    first = await workers.start(broker.url, "work")
    await asyncio.to_thread(post, broker.url, messages)
    await until(lambda: outcomes(first)["parked"] == len(messages), 20, "all are parked")
    await workers.stop()
    second = await workers.start(broker.url, "work")
    await until(lambda: second.events("parked jobs"), 20, "it has looked through them")
    await workers.stop()
    assert Counter(found(broker, ["work.parked"])) == Counter(m.body for m in messages)
    assert not workers.trouble()


async def test_dead_letters_of_strangers_can_be_listed(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """RabbitMQ dead-letters by itself, too, and changes nothing: `dead list` lives with it."""
    async with publishing(broker.url, ledger):
        pass  # declares the queues
    messages = list(strange_properties(random))
    with Stranger(broker.url) as stranger:
        for message in messages:
            await asyncio.to_thread(stranger.publish, "echo.dead", message.body, message.properties)
    listed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "amqpjobs", "dead", "list", "echo"),
        *("--each", "--limit", "1000", "--json"),
        *("--app", "tests.faults.jobs:app", "--url", broker.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    output, _ = await asyncio.wait_for(listed.communicate(), 60)
    assert listed.returncode == 0, output[-3000:]
    assert len(json.loads(output)) == len(messages)
    with Stranger(broker.url) as stranger:
        await until(
            lambda: stranger.ready("echo.dead") == len(messages), 10, "looking took nothing out"
        )

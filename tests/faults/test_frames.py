"""F36: RabbitMQ sends a header frame that is larger than what was agreed on."""

import asyncio
import json
import signal
import sys
from typing import Any

import pytest

from amqpjobs.jobs.message.ids import new_job_id
from tests.faults.fleet import ROOT, Fleet, until
from tests.faults.hostile import properties, table, text
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import FRAME_MAX, Stranger
from tests.support.brokers.broker_server import VirtualHost

C, P = 4, 8

ROOM = FRAME_MAX - 8 - 12
"""Bytes of flags and fields that the header frame of a publisher can hold."""


def filled(**given: Any) -> bytes:
    """Properties that just fill a frame."""
    entry = len(table(("x", text("")))) + 4 + len(properties(headers=None, **given))
    made = properties(headers=table(("x", text("y" * (ROOM - entry)))), **given)
    assert len(made) == ROOM
    return made


def post(url: str, ledger: Ledger, kind: str, body: bytes, count: int, **given: Any) -> list[str]:
    """Publish so many messages that fill a frame; their ids."""
    ids = [new_job_id() for _ in range(count)]
    ledger.attempt(*ids)
    with Stranger(url) as stranger:
        for job_id in ids:
            said = filled(type=kind, message_id=job_id, delivery_mode=2, **given)
            stranger.publish("work", body, said)
    ledger.confirm(*ids)
    return ids


@pytest.mark.row("F36")
async def test_a_filled_frame_that_grows_costs_nobody_else_anything(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """F36: the broker adds `x-delivery-count` when a worker dies; one of the messages fails, and
    its copy has to say why."""
    async with publishing(broker.url, ledger) as publisher:
        work = publisher.jobs.work
        assert await publisher.send_many([work.message(n, 1.0) for n in range(P)]) == []
        post(broker.url, ledger, "work", b'{"number": 1}', 3)
        dead = post(broker.url, ledger, "fails", b'"00"', 3)
        assert await publisher.send_many([work.message(n) for n in range(50)]) == []
        first = await workers.start(broker.url, "work", concurrency=P, prefetch=64)
        await until(lambda: ledger.done(), 30, "it has begun")
        first.send(signal.SIGKILL)
        await first.ended(10)
        ledger.fault("killed")
        second = await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        await publisher.all_done(60, dead)
        await finish(broker.url, workers, ledger)
        assert not second.events("connection lost, reconnecting")
    with Stranger(broker.url) as stranger:
        letters = [header for header, _ in stranger.drain("work.dead")]
    # One that was dead-lettered, and not acked yet, when its worker was killed is there twice.
    ids = [id_ for letter in letters for id_ in dead if id_.encode() in letter]
    assert set(ids) == set(dead)
    assert len(letters) == len(ids) <= 2 * len(dead)
    for letter in letters:
        assert b"amqpjobs-error" in letter
        assert b"amqpjobs-dropped" in letter
    # What runs, and what was acked just before: the reset of a killed process drops unread acks.
    ledger.check(duplicates=2 * P, dead=dead)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F36")
async def test_the_dead_commands_work_on_a_queue_with_frames_that_have_grown(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """F36: the broker adds `x-death`. They are listed, replayed with what fits, and run."""
    async with publishing(broker.url, ledger) as publisher:
        expired = post(broker.url, ledger, "work", b'{"number": 1}', 3, expiration="1")
        with Stranger(broker.url) as stranger:
            await until(lambda s=stranger: s.ready("work.dead") == 3, 20, "they have expired")
        ledger.fault("dead-lettered by RabbitMQ", 3)
        listed = json.loads(await dead(broker.url, "list", "work", "--each", "--json"))
        assert {letter["id"] for letter in listed} == set(expired)
        await dead(broker.url, "replay", "--queue", "work", "--all")
        await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        await publisher.all_done(30)
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F36")
async def test_parked_jobs_with_filled_frames_come_back_and_so_do_those_behind_them(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """F36: each copy, into the parked jobs and back, is made to fit."""
    async with publishing(broker.url, ledger) as publisher:
        post(broker.url, ledger, "work", b'{"number": 1}', 3)
        work = publisher.jobs.work
        assert await publisher.send_many([work.message(n) for n in range(20)]) == []
        stranger = await workers.start(broker.url, "work", app="tests.faults.poison:app")
        await until(lambda: len(stranger.events("job parked")) == 23, 30, "all are parked")
        await workers.stop()
        ledger.fault("parked", 23)
        await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        await publisher.all_done(30)
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert not workers.trouble()


async def dead(url: str, *arguments: str) -> str:
    """What a `dead` command prints."""
    command = (sys.executable, "-m", "amqpjobs", "dead", *arguments)
    program = await asyncio.create_subprocess_exec(
        *command, "--app", "tests.faults.jobs:app", "--url", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 0, output[-3000:]
    return output.decode()

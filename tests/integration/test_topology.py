"""Topology on real brokers: made where it is missing, compared where it is there, never changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE
from tests.support.amqp import QUORUM, count, declare, publish, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working


@dataclass
class Guest:
    """A user who may read and write, and configure only what the pattern says."""

    broker: VirtualHost
    name: str
    url: str

    def may_configure(self, pattern: str) -> None:
        self.broker.server.set_permissions(self.name, self.broker.name, configure=pattern)


@pytest.fixture
def guest(broker: VirtualHost) -> Iterator[Guest]:
    """A user without the permission to configure anything."""
    name = f"reader-{broker.name}"
    broker.server.add_user(name, "hunter2")
    user = Guest(broker, name, broker.url.replace("guest:guest", f"{name}:hunter2"))
    user.may_configure("^$")
    yield user
    broker.server.delete_user(name)


def queues_of(broker: VirtualHost) -> dict[str, dict[str, Any]]:
    rows = broker.server.api("GET", f"/queues/{quote(broker.name, safe='')}")
    return {row["name"]: row["arguments"] for row in rows}


async def test_a_worker_declares_what_its_queues_need(broker: VirtualHost) -> None:
    """Durable quorum queues with a delivery limit, dead letters and parked jobs; only its own."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    async with working(app, "work"):
        found = queues_of(broker)
    assert set(found) == {"work", "work.dead", "work.parked", DELAY_UNROUTABLE}
    assert found["work"] == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "amqpjobs.dead",
        "x-dead-letter-routing-key": "work.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


@pytest.mark.parametrize(
    ("arguments", "argument", "wanted", "found"),
    [
        (
            {
                "x-queue-type": "classic",
                "x-dead-letter-exchange": "amqpjobs.dead",
                "x-dead-letter-routing-key": "work.dead",
                "x-overflow": "reject-publish",
            },
            "x-queue-type",
            "wanted 'quorum'",
            "found 'classic'",
        ),
        (
            {"x-queue-type": "quorum", "x-dead-letter-exchange": "elsewhere"},
            "x-dead-letter-exchange",
            "wanted 'amqpjobs.dead'",
            "found 'elsewhere'",
        ),
        (QUORUM, "x-dead-letter-exchange", "wanted 'amqpjobs.dead'", "found none"),
    ],
)
async def test_a_queue_with_other_arguments_is_a_clear_error(
    broker: VirtualHost, arguments: dict[str, str], argument: str, wanted: str, found: str
) -> None:
    """It says which argument, what was wanted and what is there; nothing is deleted or changed."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    async with stranger(broker.url) as channel:
        await declare(channel, "work", arguments)
        await publish(channel, "work", b"1")
        with pytest.raises(TopologyMismatch) as failed:
            async with working(app):
                pass
        for part in ("'work'", argument, wanted, found, "Nothing was changed"):
            assert part in str(failed.value)
        assert failed.value.entity == "queue 'work'"
        assert argument in failed.value.difference
        with pytest.raises(TopologyMismatch):
            async with app.lifespan():
                pass
        await until(lambda: _counted(channel), "the message is still there")
    assert queues_of(broker)["work"] == arguments


async def _counted(channel: Any) -> bool:
    return await count(channel, "work") == 1


def test_apply_check_and_show(broker: VirtualHost, tmp_path: Path) -> None:
    """Check tells what is missing (1), apply makes it (0), then check is content (0)."""
    env = environment(broker.url, tmp_path)
    missing = command("topology", "check", env=env)
    assert missing.returncode == 1
    assert "missing" in missing.stdout
    assert not queues_of(broker), "check declares nothing"
    applied = command("topology", "apply", env=env)
    assert (applied.returncode, applied.stderr) == (0, "")
    assert {"work", "work.dead", "work.parked", "lanes.high"} <= set(queues_of(broker))
    assert command("topology", "check", env=env).returncode == 0
    assert command("topology", "apply", env=env).returncode == 0


async def test_check_and_apply_show_a_difference(broker: VirtualHost, tmp_path: Path) -> None:
    """Both end with 1, name the argument with both values, and leave the queue alone."""
    env = environment(broker.url, tmp_path)
    async with stranger(broker.url) as channel:
        await declare(channel, "work", {**QUORUM, "x-max-length": 5})
    for verb in ("check", "apply"):
        done = command("topology", verb, env=env)
        assert done.returncode == 1
        output = done.stdout + done.stderr
        assert "work" in output
        assert "x-" in output
        assert "found none" in output
        assert "Traceback" not in output
    assert queues_of(broker)["work"] == {**QUORUM, "x-max-length": 5}


async def test_a_user_who_may_not_declare_works_where_all_is_there(
    broker: VirtualHost, guest: Guest
) -> None:
    """The topology is applied by another user before the release; workers only check it."""
    app, maker = app_at(guest.url), app_at(broker.url)
    done: list[int] = []

    @maker.job(queue="work")
    async def made(n: int) -> None: ...

    @app.job(queue="work")
    async def job(n: int) -> None:
        done.append(n)
        if n == 2:
            raise ValueError

    async with maker.lifespan():
        pass
    async with working(app), stranger(broker.url) as channel:
        await job.later(1)
        await job.later(2)
        await until(lambda: sorted(done) == [1, 2], "both are done")
        await until(lambda: _dead(channel), "the failed one is put aside")


async def _dead(channel: Any) -> bool:
    return await count(channel, "work.dead") == 1


async def test_a_user_who_may_not_declare_is_told_what_is_missing(guest: Guest) -> None:
    """One clear error at start, for workers and for publishers."""
    app = app_at(guest.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    for attempt in (working(app), app.lifespan()):
        with pytest.raises(TopologyMismatch, match="may not declare it") as failed:
            async with attempt:
                pass
        assert "amqpjobs topology apply" in str(failed.value)


def test_the_command_line_says_so_too(guest: Guest, tmp_path: Path) -> None:
    """No permission, nothing there: one line on stderr at once, exit status 1 or 2 (F30)."""
    env = environment(guest.url, tmp_path)
    for arguments, status, words in (
        (("consume", "work"), 1, "may not declare it"),
        (("topology", "apply"), 2, "lacks the configure permission for exchange 'amqpjobs.dead'"),
        (("enqueue", "quick", "-a", "1"), 1, "may not declare it"),
    ):
        done = command(*arguments, env=env, timeout=20)
        assert done.returncode == status, str(done)
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "hunter2" not in done.stdout + done.stderr

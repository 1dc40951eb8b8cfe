"""The three users on real brokers: each does its work, nothing more, and is told what it lacks."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import aio_pika
import amqp
import pytest
from aiormq import exceptions as aiormq_errors

from amqpjobs import App, Context, Exchange, KillSwitch, Queue, Reject, Retry
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.cli.topology import whole_of
from amqpjobs.client.client import registry_of
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, NotPermitted
from amqpjobs.jobs.queue.permissions import definitions_of, permissions_of
from amqpjobs.jobs.queue.topology import RECORDER_QUEUE
from amqpjobs.web.recorder import Recording
from amqpjobs.worker.worker import Worker
from tests.integration.state.test_recorder import recording
from tests.support import jobs as support
from tests.support.amqp import QUORUM, count, publish, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.programs import command, environment
from tests.support.users import PASSWORD, Users, users_of
from tests.support.waiting import PATIENCE, until
from tests.support.workers import app_at, working

SWITCH = KillSwitch(ratio=0.5, at_least=1, window=30, pause=60)
ORDERS = Exchange("orders")
SOON = Retry(attempts=2, first=1.5, factor=1, jitter=False)


class Jobs:
    """The same jobs on whichever app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.done: list[tuple[str, int]] = []
        self.cancelled = asyncio.Event()

        @app.job(queue=Queue("work", priorities={"high": 2, "low": 1}), name="quick")
        async def quick(n: int) -> int:
            self.done.append(("quick", n))
            return n * 2

        @app.job(queue="more", retry=SOON, name="twice")
        async def twice(ctx: Context, n: int) -> None:
            self.done.append(("twice", ctx.attempt))
            if ctx.attempt == 1:
                raise ValueError("not yet")

        @app.job(queue="more", name="refuse")
        async def refuse(n: int) -> None:
            raise Reject("never")

        @app.job(queue="more", name="wait")
        async def wait(n: int) -> None:
            self.done.append(("wait", n))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        @app.job(queue=Queue("fragile", kill_switch=SWITCH), retry=SOON, name="break_down")
        async def break_down(n: int) -> None:
            raise ConnectionRefusedError

        self._listen()
        self.quick, self.twice, self.refuse = quick, twice, refuse
        self.wait, self.break_down = wait, break_down

    def _listen(self) -> None:
        app = self.app

        @app.on(ORDERS, "order.#", queue="more", name="event")
        async def event(n: int) -> None:
            self.done.append(("event", n))
            if n < 100:
                await app.publish(ORDERS, "order.again", n + 100)

        @app.job(queue=Queue("theirs", foreign=True), retry=SOON, name="foreign")
        async def foreign(ctx: Context, n: int) -> None:
            self.done.append(("foreign", ctx.attempt))
            if ctx.attempt == 1:
                raise ValueError("not yet")

        @app.broadcast(ORDERS, "order.*")
        async def everywhere(n: int) -> None:
            self.done.append(("broadcast", n))

    async def until_done(self, *what: tuple[str, int]) -> None:
        await until(lambda: set(what) <= set(self.done), f"{what} are done")


@pytest.fixture
def users(broker: VirtualHost) -> Iterator[Users]:
    """Those of the app of `Jobs`."""
    with users_of(Jobs(app_at(broker.url)).app, broker) as found:
        yield found


@pytest.fixture
async def applied(users: Users) -> Users:
    """The same, when `topology apply --recorder` has run as the user for it."""
    app = Jobs(users.app("deploy")).app
    async with connected(app.settings, "declare") as wire, Declarer(wire) as declarer:
        await declarer.apply(whole_of(app, None, recorder=True), strictly=True)
        async with stranger(users.broker.url) as channel:
            await channel.declare_queue("theirs", durable=True, arguments=QUORUM)
        await declarer.apply(registry_of(app).foreign, strictly=True)
    return users


async def test_each_user_does_its_work(applied: Users, tmp_path: Path) -> None:
    """Enqueue, delay, ask, cancel, watch, record; consume, retry, bury, park, pause; look."""
    web = Jobs(applied.app("publisher", store_url=f"sqlite:///{tmp_path}/s.db"))
    worker = Jobs(applied.app("worker"))
    async with stranger(applied.broker.url) as channel:
        await publish(channel, "work.parked", b"7", type="quick")  # known by now
        await publish(channel, "work", b"1", type="nobody knows it")
        async with working(worker.app), web.app.lifespan(), recording(web.app):
            await worker.until_done(("quick", 7))
            first = await web.quick.later(1)
            await web.app.later_many([web.quick.message(n) for n in (2, 3)])
            await web.quick.with_options(delay=1, priority="high").later(4)
            assert await web.quick.request(5) == 10
            await web.twice.later(6)
            await web.refuse.later(8)
            await web.app.publish(ORDERS, "order.placed", 11)
            await publish(channel, "theirs", b"1", type="What.They.Call.It")
            await worker.until_done(("event", 11), ("event", 111), ("foreign", 2))
            for each in (web, worker):
                await each.until_done(("broadcast", 11), ("broadcast", 111))
            await worker.until_done(*(("quick", n) for n in (1, 2, 3, 4, 5)), ("twice", 2))
            asking = asyncio.create_task(web.wait.request(9))
            await worker.until_done(("wait", 9))
            asking.cancel()
            async with asyncio.timeout(PATIENCE):
                await worker.cancelled.wait()
                watched = [status.state async for status in web.app.watch(first.id)]
            assert watched[-1] == "done"
            await until(lambda: _counted(channel, "more.dead", 1), "one is dead")
            await until(lambda: _counted(channel, "work.parked", 1), "one is parked")
            await web.break_down.later(10)
            for role in ("deploy", "publisher"):
                await until(lambda role=role: _paused(applied.app(role)), f"{role} sees the pause")


async def _counted(channel: Any, queue: str, expected: int) -> bool:
    return await count(channel, queue) == expected


async def _paused(app: App) -> bool:
    jobs = Jobs(app)
    async with connected(app.settings, "inspect") as wire:
        rows = await rows_of(jobs.app.queues, wire, app.settings)
    return {row["queue"]: row.get("state") for row in rows}["fragile"] == "paused"


def test_whoever_deploys_has_all_the_commands_for_it(broker: VirtualHost, tmp_path: Path) -> None:
    """Declares, checks, looks, and moves dead letters; the management API answers as well."""
    with users_of(support.app, broker) as users:
        env = environment(
            users.url("deploy"), tmp_path, AMQPJOBS_MANAGEMENT_URL=broker.server.management_url
        )

        def done(*arguments: str) -> str:
            found = command(*arguments, env=env)
            assert (found.returncode, found.stderr) == (0, ""), found
            assert PASSWORD not in found.stdout
            return found.stdout

        done("topology", "apply", "--recorder")
        done("topology", "check")
        checks = {row["check"]: row for row in json.loads(done("doctor", "--json"))}
        assert checks["permissions"]["state"] == "ok"
        assert checks["management API"]["state"] == "ok"
        rows = json.loads(done("queues", "--json"))
        assert {row["queue"] for row in rows} == {"work", "lanes", "lanes.high"}
        assert all(row["unacked"] == 0 for row in rows)
        asyncio.run(_put(broker, "work.dead", b"1", "quick"))
        done("delayed", "list", "--json")
        assert command("dead", "replay", "--all", env=env).returncode == 0
        assert asyncio.run(_ready(broker, "work")) == 1


async def _put(broker: VirtualHost, queue: str, body: bytes, job: str) -> None:
    async with stranger(broker.url) as channel:
        await publish(channel, queue, body, type=job)


async def _ready(broker: VirtualHost, queue: str) -> int:
    async with stranger(broker.url) as channel:
        return await count(channel, queue)


Operation: TypeAlias = Callable[[Any], Awaitable[Any]]


def _nothing(message: object) -> None:
    raise AssertionError("nobody may get this")


def consume(queue: str) -> Operation:
    return lambda channel: channel.basic_consume(queue, _nothing)


def get(queue: str) -> Operation:
    return lambda channel: channel.basic_get(queue)


def purge(queue: str) -> Operation:
    return lambda channel: channel.queue_purge(queue)


def delete(queue: str) -> Operation:
    return lambda channel: channel.queue_delete(queue)


def declare(queue: str, **options: Any) -> Operation:
    return lambda channel: channel.queue_declare(queue, **options)


def make_exchange(name: str) -> Operation:
    return lambda channel: channel.exchange_declare(name, durable=True)


def delete_exchange(name: str) -> Operation:
    return lambda channel: channel.exchange_delete(name)


def bind(queue: str, exchange: str) -> Operation:
    return lambda channel: channel.queue_bind(queue, exchange, "#")


def send(exchange: str) -> Operation:
    return lambda channel: channel.basic_publish(b"1", exchange=exchange, routing_key="work")


NOBODY: dict[str, Operation] = {
    "declare a queue of another name": declare("homework", durable=True),
    "declare a queue whose name only begins so": declare("workshop", durable=True),
    "consume what is not the app's": consume("other"),
    "delete what is not the app's": delete("other"),
    "fill a queue from an exchange of others": bind("work", "amq.topic"),
    "publish to an exchange of others": send("amq.fanout"),
    "declare an exchange": make_exchange("mine"),
}

NOT_THE_TOPOLOGY: dict[str, Operation] = {
    "declare a job's queue": declare("work", durable=True),
    "delete a job's queue": delete("work"),
    "delete dead letters": delete("more.dead"),
    "purge dead letters": purge("more.dead"),
    "consume dead letters": consume("more.dead"),
    "purge a delay": purge("amqpjobs.delay.00"),
    "consume a delay": consume("amqpjobs.delay.00"),
    "delete a delay": delete("amqpjobs.delay.00"),
    "delete the exchange of dead letters": delete_exchange("amqpjobs.dead"),
    "delete the exchange of events": delete_exchange("amqpjobs.events"),
    "consume what had no queue": consume("amqpjobs.delay.unroutable"),
}

REFUSED: dict[str, dict[str, Operation]] = {
    "deploy": NOBODY,
    "worker": NOBODY
    | NOT_THE_TOPOLOGY
    | {
        "take events from the recorder": get(RECORDER_QUEUE),
        "make the mark of another queue": declare("amqpjobs.paused.other", exclusive=True),
    },
    "publisher": NOBODY
    | NOT_THE_TOPOLOGY
    | {
        "consume jobs": consume("work"),
        "take a job of a priority": get("work.low"),
        "purge jobs": purge("work"),
        "take parked jobs": get("work.parked"),
        "listen for words to cancel": bind("work", "amqpjobs.control"),
        "mark a queue as paused": declare("amqpjobs.paused.work", exclusive=True),
        "delete the recorder's queue": delete(RECORDER_QUEUE),
    },
}


async def test_and_nothing_more(applied: Users) -> None:
    """Each with the queues there, so that it is the permission that refuses."""
    async with stranger(applied.broker.url) as channel:
        await channel.declare_queue("other", durable=True)
        await publish(channel, "work", b"1")
    for role, operations in REFUSED.items():
        connection = await aio_pika.connect(applied.url(role), timeout=10)
        async with connection:
            allowed = [what for what, each in operations.items() if await _may(connection, each)]
        assert allowed == [], f"{role} may"


async def _may(connection: aio_pika.abc.AbstractConnection, operation: Operation) -> bool:
    channel = await connection.channel()
    try:
        await operation(await channel.get_underlay_channel())
    except aiormq_errors.ChannelAccessRefused:
        return False
    return True


async def test_nobody_can_log_in_until_a_password_is_set(broker: VirtualHost) -> None:
    """What is imported has none: neither an empty one, nor guest's, nor its own name."""
    app = Jobs(app_at(broker.url)).app
    found = permissions_of(app.queues.values(), broker.name)
    broker.server.api("POST", "/definitions", definitions_of(found, broker.name))
    try:
        for each in found:
            for guess in ("guest", each.user, "password"):
                url = broker.url.replace("guest:guest", f"{each.user}:{guess}")
                with pytest.raises(BrokerUnavailable, match="refused the login") as refused:
                    await Link(app_at(url).settings, "publish").connect()
                assert not refused.value.temporary
            place = broker.url.rpartition("@")[2].partition("/")[0]
            with pytest.raises(amqp.exceptions.AccessRefused):
                amqp.Connection(
                    place, each.user, "", login_method="PLAIN", virtual_host=broker.name
                ).connect()
    finally:
        for each in found:
            broker.server.delete_user(each.user)


def test_from_the_file_to_a_login_with_rabbitmqs_own_command(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """As the text says: import, set a password; permissions that are imported later keep it."""
    server = broker.server
    if not isinstance(server, Broker):
        pytest.skip("needs rabbitmqctl")
    env = environment(broker.url, tmp_path)
    file = server.home / f"{broker.name}.json"  # where the node sees it, too

    def imported(*options: str) -> None:
        shown = command("topology", "users", "--vhost", broker.name, "--json", *options, env=env)
        assert shown.returncode == 0, shown
        file.write_text(shown.stdout)
        file.chmod(0o644)
        server.ctl("import_definitions", str(file))

    def checked() -> int:
        url = broker.url.replace("guest:guest", f"{broker.name}-deploy:secret")
        return command("topology", "apply", env=environment(url, tmp_path)).returncode

    try:
        imported()
        assert checked() == 3
        server.ctl("change_password", f"{broker.name}-deploy", "secret")
        assert checked() == 0
        imported("--permissions")
        assert checked() == 0
        imported()
        assert checked() == 3, "the text warns of it"
    finally:
        for role in ("deploy", "worker", "publisher"):
            server.delete_user(f"{broker.name}-{role}")


LACKING_PUBLISHER: list[tuple[str, str, str, Callable[[Jobs], Awaitable[Any]]]] = [
    ("write", "amq.default", "exchange 'amq.default'", lambda jobs: jobs.quick.later(1)),
    ("write", "amq.default", "exchange 'amq.default'", lambda jobs: jobs.quick.request(1)),
    (
        "write", "amqpjobs.delay.00", "exchange 'amqpjobs.delay.00'",
        lambda jobs: jobs.quick.with_options(delay=1).later(1),
    ),
    ("configure", "amq.gen-.*", "'amq.gen-", lambda jobs: jobs.quick.request(1)),
    ("read", "amq.gen-.*", "'amq.gen-", lambda jobs: jobs.quick.request(1)),
    ("write", "amq.gen-.*", "'amq.gen-", lambda jobs: watched(jobs.app)),
    ("read", "amqpjobs.events", "exchange 'amqpjobs.events'", lambda jobs: watched(jobs.app)),
]  # fmt: skip


async def watched(app: App) -> None:
    async with asyncio.timeout(PATIENCE):
        async for _ in app.watch("no such job"):
            pass


async def test_a_publisher_is_told_which_permission_it_lacks(
    applied: Users, subtests: pytest.Subtests
) -> None:
    """At once, by an error that names it, what it is for, and where to look it up."""
    for permission, name, resource, act in LACKING_PUBLISHER:
        with subtests.test(permission=permission, name=name):
            jobs = Jobs(applied.app("publisher", publish_timeout=5, request_timeout=5))
            with applied.without("publisher", permission, name):
                async with jobs.app.lifespan():
                    with pytest.raises(AmqpJobsError) as told:
                        await act(jobs)
            for part in (permission, resource, "`amqpjobs topology users`"):
                assert part in str(told.value)
            assert PASSWORD not in str(told.value)


async def test_a_recorder_that_may_not_read_its_queue_does_not_start(
    applied: Users, tmp_path: Path
) -> None:
    """Neither by itself nor in a web tier, which goes on without it."""
    app = Jobs(applied.app("publisher", store_url=f"sqlite:///{tmp_path}/s.db")).app
    with applied.without("publisher", "read", RECORDER_QUEUE):
        with pytest.raises(NotPermitted, match=rf"read permission for queue '{RECORDER_QUEUE}'"):
            async with recording(app):
                pass
        inside = Recording(app)
        async with asyncio.timeout(PATIENCE):
            await inside.run()
        assert inside.problem is not None


async def test_a_worker_that_may_not_read_its_queue_does_not_start(applied: Users) -> None:
    """It would else try for ever."""
    with (
        applied.without("worker", "read", "work"),
        pytest.raises(NotPermitted) as told,
    ):
        async with working(Jobs(applied.app("worker")).app, "work"):
            pass
    error = told.value
    assert (error.permission, error.resource) == ("read", "queue 'work'")


LACKING_WORKER: list[tuple[str, str, str, str, str]] = [
    ("write", "amq.default", "refuse", "copy is not confirmed, trying again", "'amq.default'"),
    (
        "write", "amqpjobs.delay.00", "twice", "copy is not confirmed, trying again",
        "'amqpjobs.delay.00'",
    ),
    ("write", "amqpjobs.events", "quick", "events cannot be sent", "'amqpjobs.events'"),
    ("configure", "amq.gen-.*", "quick", "requests cannot be cancelled here", "'amq.gen-"),
    ("read", "amqpjobs.control", "quick", "requests cannot be cancelled here",
     "'amqpjobs.control'"),
    ("configure", "amqpjobs.paused.fragile", "break_down", "pause mark not set",
     "'amqpjobs.paused.fragile'"),
    ("read", "work.parked", "quick", "parked jobs not requeued", "'work.parked'"),
]  # fmt: skip


async def test_a_workers_log_says_which_permission_it_lacks(
    applied: Users, caplog: pytest.LogCaptureFixture, subtests: pytest.Subtests
) -> None:
    """What it can do without, it does; all else it tries again until somebody permits it."""
    caplog.set_level(logging.INFO, "amqpjobs")
    await _put(applied.broker, "work.parked", b"1", "quick")
    for permission, name, job, event, resource in reversed(LACKING_WORKER):
        caplog.clear()
        with subtests.test(permission=permission, name=name):
            jobs = Jobs(applied.app("worker"))
            with applied.without("worker", permission, name):
                worker = Worker(jobs.app)
                working = asyncio.create_task(worker.run())
                try:
                    await worker.started()
                    queue = {"quick": "work", "break_down": "fragile"}.get(job, "more")
                    await _put(applied.broker, queue, b"2", job)
                    said = await until(
                        lambda event=event, resource=resource: _said(caplog, event, resource),
                        f"the log says {event!r} and names {resource}",
                    )
                finally:
                    worker.stop()
                    await working
            assert permission in said
            assert PASSWORD not in caplog.text


def _said(caplog: pytest.LogCaptureFixture, event: str, resource: str) -> str | None:
    for record in caplog.records:
        text = " ".join(map(str, (record.getMessage(), *vars(record).values())))
        if event in text and resource in text:
            return text
    return None


LACKING_DEPLOY = [
    # Asked for when it is made only, so these go first: what one declares, the next finds there.
    ("read", "work", "queue 'work'"),
    ("write", "amqpjobs.dead", "exchange 'amqpjobs.dead'"),
    ("configure", "work", "queue 'work'"),
    ("configure", "amqpjobs.dead", "exchange 'amqpjobs.dead'"),
    ("read", "amqpjobs.dead", "exchange 'amqpjobs.dead'"),
    ("write", "work.dead", "queue 'work.dead'"),
    ("read", "amqpjobs.delay.deliver", "exchange 'amqpjobs.delay.deliver'"),
    ("write", "amqpjobs.delay.00", "'amqpjobs.delay.00'"),
]


async def test_topology_apply_says_which_permission_it_lacks(
    users: Users, subtests: pytest.Subtests
) -> None:
    """Also of a binding, which nobody would miss until a job is lost out of sight."""
    app = Jobs(users.app("deploy")).app
    for permission, name, resource in LACKING_DEPLOY:
        with subtests.test(permission=permission, name=name):
            async with connected(app.settings, "declare") as wire, Declarer(wire) as declarer:
                with (
                    users.without("deploy", permission, name),
                    pytest.raises(NotPermitted) as told,
                ):
                    await declarer.apply(whole_of(app, None), strictly=True)
            assert resource in told.value.resource
            assert permission in str(told.value)
            assert "`amqpjobs topology users`" in str(told.value)


async def test_a_binding_that_may_not_be_made_is_no_secret(users: Users) -> None:
    """At start, too: who declares the queue is who makes its binding."""
    with (
        users.without("deploy", "write", "work.dead"),
        pytest.raises(NotPermitted, match=r"write permission for queue 'work\.dead'"),
    ):
        async with Jobs(users.app("deploy")).app.lifespan():
            pass


async def test_a_user_without_the_virtual_host_is_told(users: Users) -> None:
    """Which one, and whose."""
    user = users.permissions["worker"].user
    users.broker.server.api("DELETE", f"/permissions/{users.broker.name}/{user}")
    with pytest.raises(BrokerUnavailable) as told:
        await Link(users.app("worker").settings, "consume").connect()
    assert user in str(told.value)
    assert users.broker.name in str(told.value)
    assert not told.value.temporary


async def test_who_may_declare_nothing_and_does_not_say_so_works_all_the_same(
    applied: Users,
) -> None:
    """`AMQPJOBS_DECLARE=false` spares the refusals; without it they cost time only."""
    worker = Jobs(app_at(applied.url("worker")))
    web = Jobs(app_at(applied.url("publisher")))
    async with working(worker.app), web.app.lifespan():
        await web.quick.later(1)
        await web.quick.with_options(delay=1).later(2)
        await worker.until_done(("quick", 1), ("quick", 2))


async def test_what_is_not_there_is_told_to_workers_that_may_not_declare(users: Users) -> None:
    """Before anything was applied."""
    for role in ("worker", "publisher"):
        with pytest.raises(AmqpJobsError, match="amqpjobs topology apply"):
            async with Jobs(app_at(users.url(role))).app.lifespan():
                pass
    with pytest.raises(AmqpJobsError, match="amqpjobs topology apply"):
        async with working(Jobs(users.app("worker")).app):
            pass

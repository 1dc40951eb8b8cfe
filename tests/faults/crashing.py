"""The app of the fault tests in a process that ends at a named point, once.

`FAULTS_CRASH` names the point: what is on its way, and where it ends. The points are laid around
the package's functions from here, so that in production there is nothing of them. What a worker
publishes is a retry's copy, a dead letter, or a job that a handler enqueues:

    before publish   nothing of it was written
    after publish    it is on the wire, unconfirmed
    before confirm   the confirm was read, and nobody was told
    after confirm    whoever published it was told, and has done nothing yet
    before ack       all is confirmed, the ack is not written
    after ack        the ack is on the wire
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from amqpjobs import Context, Retry
from amqpjobs.broker.rabbitmq.confirms import ConfirmChannel, Outgoing
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.jobs.message.header_names import HEADER_ATTEMPT, HEADER_ERROR
from amqpjobs.jobs.message.properties import Properties
from tests.faults.jobs import LEDGER, build, note
from tests.faults.ledger import append

CRASH: Final = "FAULTS_CRASH"
"""The variable with the point: ``retry: before publish``."""

CRASHED: Final = 77
"""The exit status of a process that has crashed as it should."""

PUBLISHED: Final = ("before publish", "after publish", "before confirm", "after confirm")
ACKED: Final = ("before ack", "after ack")
POINTS: Final = tuple(
    f"{kind}: {place}"
    for kind in ("done", "retry", "dead", "later")
    for place in ((*PUBLISHED, *ACKED) if kind != "done" else ACKED)
)

jobs = build()
app = jobs.app


@app.job(queue="work", name="child")
async def child(ctx: Context, parent: str) -> None:
    """What `later` enqueues."""
    note(ctx, time.time(), f"child of {parent}")


@app.job(queue="work", name="done")
async def done(ctx: Context) -> None:
    """Has an effect, and returns."""
    note(ctx, time.time())


@app.job(queue="work", name="retry", retry=Retry(attempts=2, first=0.1))
async def retry(ctx: Context) -> None:
    """Fails once."""
    if ctx.attempt == 1:
        raise ValueError("once")
    note(ctx, time.time())


@app.job(queue="work", name="dead")
async def dead(ctx: Context) -> None:
    """Fails for good."""
    raise ValueError("for good")


@app.job(queue="work", name="later")
async def later(ctx: Context) -> None:
    """Enqueues a job, in the way of the ledger, and has an effect of its own."""
    message = child.message(ctx.job_id)
    tell("attempted", message.id)
    await app.enqueue(message)
    tell("confirmed", message.id)
    note(ctx, time.time())


def tell(what: str, job_id: str) -> None:
    """Write an id into one of the ledger's files."""
    path = Path(os.environ[LEDGER]).with_name(what)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    append(descriptor, job_id + "\n")
    os.fsync(descriptor)
    os.close(descriptor)


def kind_of(properties: Properties) -> str:
    """What a message that a worker publishes is."""
    if HEADER_ERROR in properties.headers:
        return "dead"
    if HEADER_ATTEMPT in properties.headers:
        return "retry"
    return "later" if properties.type == "child" else "none"


def crash() -> None:
    """End as if killed: nothing is flushed, no `finally` runs."""
    os._exit(CRASHED)


def around(owner: type, name: str, before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Call something before a method of a class and after it."""
    method = getattr(owner, name)

    def wrapped(self: Any, *args: Any) -> Any:
        before(self, *args)
        result = method(self, *args)
        after(self, *args)
        return result

    setattr(owner, name, wrapped)


def nothing(*_: object) -> None:
    """At this side of a method nothing happens."""


class Crash:
    """Ends the process at one point."""

    def __init__(self, point: str) -> None:
        self.kind, _, self.place = point.partition(": ")
        self.near = self.kind == "done"
        """Whether an ack that comes now is that of the job in question."""
        self.acking = False

    def arm(self) -> None:
        """Lay it around the package's functions."""
        around(ConfirmChannel, "transmit", self.before_publish, self.after_publish)
        around(ConfirmChannel, "confirmed", self.before_confirm, nothing)
        around(ConsumerChannel, "flush", self.before_ack, self.after_ack)
        publish = Publication.publish

        async def published(self_: Publication, *args: Any, **options: Any) -> None:
            await publish(self_, *args, **options)
            if kind_of(args[2]) == self.kind:
                self.near = True
                self.at("after confirm")

        Publication.publish = published  # type: ignore[method-assign]

    def at(self, place: str) -> None:
        if place == self.place:
            crash()

    def before_publish(self, channel: ConfirmChannel, outgoing: Outgoing) -> None:
        if kind_of(outgoing.properties) == self.kind:
            self.at("before publish")

    def after_publish(self, channel: ConfirmChannel, outgoing: Outgoing) -> None:
        if kind_of(outgoing.properties) == self.kind:
            channel.wire.protocol.flush()
            self.at("after publish")

    def before_confirm(self, channel: ConfirmChannel, *_: object) -> None:
        if any(kind_of(o.properties) == self.kind for o in channel.pending.values()):
            self.at("before confirm")

    def before_ack(self, channel: ConsumerChannel) -> None:
        self.acking = self.near and bool(channel._acked)
        if self.acking:
            self.at("before ack")

    def after_ack(self, channel: ConsumerChannel) -> None:
        if self.acking:
            channel._protocol.flush()
            self.at("after ack")


if os.environ.get(CRASH):
    Crash(os.environ[CRASH]).arm()

"""Metrics of a worker: what it counts, and what is read from it.

Made only where a meter provider is set up. Changes when a metric of workers does.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.clock import Clock
from amqpjobs.jobs.message.header_names import DUE_ENCODED
from amqpjobs.jobs.message.headers import read_leniently
from amqpjobs.jobs.outcome import Done, Outcome
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.metrics.aggregates import Attributes, Count
from amqpjobs.telemetry.metrics.instruments import Meters, Reading, Recorder
from amqpjobs.telemetry.traces.tracer import server_of
from amqpjobs.worker.flow.gate import Gate
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.reporting import waiting_time

if TYPE_CHECKING:
    from amqpjobs.jobs.runtime import Runtime
    from amqpjobs.worker.run import Run

MOST_KINDS = 10_000
"""That are kept. There are that many only where classes of errors are made up as it goes."""

Kind: TypeAlias = tuple[str, str | None, str, str | None]
"""Of a delivery that has ended: AMQP queue, job, outcome, and error, where there are any."""


class _Tally(NamedTuple):
    """Where the deliveries of one kind are counted."""

    ended: Count
    consumed: Count
    processing: Recorder
    waiting: Recorder
    settling: Recorder


class Metering:
    """Counts the deliveries of one worker: an observer of `amqpjobs.worker.reporting`.

    Args:
        meters: where it counts.
        server: the attributes that say which broker it is.
    """

    def __init__(self, meters: Meters, server: Attributes) -> None:
        self._meters = meters
        self._tallies: dict[Kind, _Tally] = {}
        self.moved(server)

    def moved(self, server: Attributes) -> None:
        """Another node of the cluster is connected from now on.

        Args:
            server: the attributes that say which one.
        """
        self._server = server
        self._tallies.clear()

    def __call__(self, run: "Run", outcome: Outcome) -> None:
        """A delivery has ended, and is settled."""
        now = time.monotonic()
        context, queue = run.context, run.delivery.queue
        # Names of unknown jobs are left out: strangers could make up any number of them.
        job = context.job if context is not None else None
        kind: Kind = (queue, job, "done", None)
        if type(outcome) is not Done:
            kind = (queue, job, outcome.word, error_of(outcome))
        tally = self._tallies.get(kind) or self._make(kind)
        tally.ended.value += 1
        if not run.begun:
            return
        tally.consumed.value += 1
        ended = run.ended or now
        waited = _waited(run, now - run.started)
        if waited is not None:
            tally.waiting.record(waited)
        # An ack is only written, which takes no time; a copy for the next run, or an answer, has to
        # be confirmed before.
        tally.settling.record(now - ended)
        if kind[2] != "released":  # how long it would have taken nobody knows
            tally.processing.record(ended - run.started)

    def _make(self, kind: Kind) -> _Tally:
        queue, job, outcome, error = kind
        own: dict[str, str | int] = {names.DESTINATION: queue}
        if job is not None:
            own[names.JOB] = job
        common = {names.SYSTEM: names.RABBITMQ, **own, **self._server}
        failed = common if error is None else {**common, names.ERROR_TYPE: error}
        settled = names.NACK if outcome == "released" else names.ACK
        meters = self._meters
        tally = _Tally(
            meters.ended.of({**own, names.OUTCOME: outcome}),
            meters.consumed.of({**common, names.OPERATION_NAME: names.PROCESS}),
            meters.processing.of({**failed, names.OPERATION_NAME: names.PROCESS}),
            meters.waiting.of(own),
            meters.operations.of(
                {**common, names.OPERATION_NAME: settled, names.OPERATION_TYPE: names.SETTLE}
            ),
        )
        if len(self._tallies) < MOST_KINDS:
            self._tallies[kind] = tally
        return tally


def error_of(outcome: Outcome) -> str | None:
    """What ``error.type`` says of how a handler ended: the exception's class, else the reason."""
    failure = outcome.failure
    return (failure.exception or failure.reason) if failure is not None else None


def _waited(run: "Run", running: float) -> float | None:
    """Seconds that it waited for its start: since it was enqueued; or since it was due, if it was
    delayed or runs again."""
    if not run.delivery.may_have(DUE_ENCODED):
        again = run.context is not None and run.context.attempt > 1
        return None if again else waiting_time(run, running)
    try:
        due = read_leniently(run.delivery.header.headers).due
    except DecodeError:
        return None
    return max(0.0, time.time() - running - due) if due is not None else None


class Metered(NamedTuple):
    """What is read off a worker.

    Attributes:
        running: the runs that are under way.
        concurrency: how many there may be.
        subscriptions: of all AMQP queues.
        queues: of the app, whose lanes these are.
        intake: which knows their gates.
        link: of its consumers.
        lost: threads that outlive their jobs.
    """

    running: Collection["Run"]
    concurrency: int
    subscriptions: list[Subscription]
    queues: list[Queue]
    intake: Intake
    link: Link
    lost: Sized


@contextmanager
def metered(meters: Meters, worker: Metered, runtime: "Runtime") -> Iterator[Metering]:
    """Let a worker be read inside of the block.

    Args:
        meters: where it is counted.
        runtime: whose.

    Yields:
        The observer that counts its deliveries.
    """
    sources = readings(worker, runtime.clock)
    for metric, source in sources.items():
        meters.readings[metric].add(source)
    try:
        settings = runtime.settings
        metering = Metering(meters, server_of(settings, worker.link.node))
        worker.link.on_moved.append(lambda node: metering.moved(server_of(settings, node)))
        yield metering
    finally:
        for metric, source in sources.items():
            meters.readings[metric].remove(source)


def readings(worker: Metered, clock: Clock) -> dict[names.Metric, Reading]:
    """What can be read off a worker at any moment, by another thread too."""
    queue_of = {lane.queue: queue for queue in worker.queues for lane in lanes_of(queue)}

    def runs() -> Iterable[tuple[float, Attributes]]:
        now = [run.delivery.queue for run in list(worker.running)]
        for subscription in worker.subscriptions:
            yield now.count(subscription.queue), {names.DESTINATION: subscription.queue}

    def states() -> Iterable[tuple[float, Attributes]]:
        for subscription in worker.subscriptions:
            gate = worker.intake.gate_of(queue_of[subscription.queue])
            current = state_of(subscription, gate, clock.monotonic())
            for state in names.QUEUE_STATES:
                attributes = {names.DESTINATION: subscription.queue, names.STATE: state}
                yield int(state == current), attributes

    return {
        names.RUNNING: runs,
        names.SLOTS: lambda: [(worker.concurrency, {})],
        names.LOST: lambda: [(len(worker.lost), {})],
        names.QUEUES: states,
        names.RECONNECTS: lambda: [(worker.link.reconnects, {names.PURPOSE: worker.link.purpose})],
    }


def state_of(subscription: Subscription, gate: Gate | None, now: float) -> str:
    """How a worker has a queue: one of `names.QUEUE_STATES`."""
    if subscription.paused:
        return names.PAUSED
    if not subscription.consuming:
        return names.NOT_CONSUMING
    return names.TRYING if gate and gate.consuming(now) is None else names.CONSUMING

"""Operates all workers of an app: pauses, rates, purges, and what each of them says of itself.

Changes when operators can do something else.
"""

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from amqpjobs.broker.rabbitmq.hold_marker import MarkerNotSeen, change_marker, look_at_marker
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.client.broadcast import broadcast
from amqpjobs.client.fleet_answers import Ping, WorkerInfo, worker_info_of
from amqpjobs.client.fleet_looks import count_ready, ping_of, purge_queue
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.durations import LONGEST_DELAY, Seconds, seconds_above_zero
from amqpjobs.jobs.message.properties import HOLDS_CHANGED, INSPECT, JSON, PERSISTENT, Properties
from amqpjobs.jobs.queue.holds import LONGEST_BY, Hold, encode_holds, read_holds, with_rate
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import FLEET

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.client.deadletters.report import Moved

FOLLOWED = 2.0
"""Seconds to wait for workers that follow a change. Those that take longer follow it as well."""

QUIET = 0.2
"""Seconds without another answer after which all are taken to have answered."""


class Fleet:
    """All workers of an app, on whatever machines: ``app.fleet``.

    What is paused is kept on the broker, in the queue ``amqpjobs.hold``. It lasts over restarts of
    workers and of RabbitMQ, and needs no store. Running workers are notified, and follow at once.

    Args:
        client: whose workers.

    Example:
        >>> workers = await app.fleet.pause("reports", for_=3600)
        >>> (await app.fleet.holds())["reports"].paused
        True
    """

    def __init__(self, client: "Client") -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<Fleet of {self._client.runtime.registry.name}>"

    async def pause(
        self, queue: str, *, for_: Seconds | None = None, by: str | None = None
    ) -> list[str]:
        """Start no more jobs of a queue, in any worker.

        Jobs that run go on. Workers requeue what they had received and not started. Jobs can be
        enqueued meanwhile, and wait.

        Args:
            queue: the name of a queue of the app.
            for_: seconds or a timedelta, up to 8.5 years, after which it ends by itself, by the
                clocks of the workers; None for `resume`.
            by: who does it, for others to see, of which 200 characters are kept; None for the user
                and the machine.

        Returns:
            The workers that follow it by now, as ``host:pid``. Others follow when they can.

        Raises:
            ConfigurationError: the app has no such queue, or an argument cannot be used.
            NotPermitted: this user may not write the marker.
            BrokerUnavailable, PublishError: it is not known whether it was kept.

        Example:
            >>> workers = await app.fleet.pause("reports", for_=3600)
        """
        seconds = None if for_ is None else seconds_above_zero("for_", for_, LONGEST_DELAY)
        now = self._client.runtime.clock.time()
        until = None if seconds is None else now + seconds

        def pause(was: Hold | None) -> Hold:
            rate = was.rate if was is not None else None
            return Hold(queue, True, until, rate, _who(by), now)

        return await self._change(queue, pause)

    async def resume(self, queue: str, *, by: str | None = None) -> list[str]:
        """End the pause of a queue, by whomever. A rate of `set_rate` stays.

        Args:
            queue: the name of a queue of the app.
            by: as of `pause`.

        Returns:
            The workers that follow it by now.

        Raises:
            ConfigurationError, NotPermitted, BrokerUnavailable, PublishError: as `pause`.

        Example:
            >>> workers = await app.fleet.resume("reports")
        """
        now = self._client.runtime.clock.time()

        def resume(was: Hold | None) -> Hold | None:
            rate = was.rate if was is not None else None
            return None if rate is None else Hold(queue, rate=rate, by=_who(by), since=now)

        return await self._change(queue, resume)

    async def set_rate(self, queue: str, rate: str | None, *, by: str | None = None) -> list[str]:
        """Let each worker process start jobs of a queue at this rate, in place of `Queue.rate`.

        Args:
            queue: the name of a queue of the app.
            rate: such as ``"100/s"``, ``"30/m"``; None for the queue's own again.
            by: as of `pause`.

        Returns:
            The workers that follow it by now.

        Raises:
            ConfigurationError: there is no such queue, or the rate cannot be used.
            NotPermitted, BrokerUnavailable, PublishError: as `pause`.

        Example:
            >>> workers = await app.fleet.set_rate("reports", "30/m")
        """
        with_rate(self._queue(queue), rate)
        now = self._client.runtime.clock.time()

        def limit(was: Hold | None) -> Hold | None:
            paused, until = (was.paused, was.until) if was is not None else (False, None)
            if rate is None and not paused:
                return None
            return Hold(queue, paused, until, rate, _who(by), now)

        return await self._change(queue, limit)

    async def holds(self) -> Mapping[str, Hold]:
        """What operators have set, by queue, for the whole virtual host.

        Raises:
            NotPermitted: this user may not look.
            BrokerUnavailable: there is no connection.

        Example:
            >>> dict(await app.fleet.holds())
            {}
        """
        body: bytes | None = None
        async with connected(self._client.runtime.settings, "inspect") as wire:
            with suppress(MarkerNotSeen):
                body = await look_at_marker(wire)
        now = self._client.runtime.clock.time()
        known = {} if body is None else read_holds(body)
        return {queue: left for queue, hold in known.items() if (left := hold.at(now)) is not None}

    async def workers(self, *, within: Seconds = 1.0) -> list[WorkerInfo]:
        """Ask every worker of the app to describe itself.

        A worker whose event loop is blocked, and one of an older version, do not answer. Nor does
        any while RabbitMQ blocks publishers.

        Args:
            within: seconds or a timedelta to wait for answers.

        Raises:
            ConfigurationError: this user may not have a queue for answers.
            BrokerUnavailable, PublishError: they were not asked.

        Example:
            >>> workers = await app.fleet.workers(within=0.1)
        """
        seconds = seconds_above_zero("within", within)
        answers = await broadcast(self._client, INSPECT, FLEET, within=seconds)
        found: list[WorkerInfo] = []
        for body in answers:
            try:
                found.append(worker_info_of(body))
            except DecodeError:
                continue
        return sorted(found, key=lambda info: (info.host, info.pid))

    async def ping(self, *, within: Seconds = 1.0) -> Ping:
        """Ask the broker and every worker for an answer.

        Args:
            within: seconds or a timedelta to wait for workers.

        Raises:
            BrokerUnavailable: the broker does not answer.

        Example:
            >>> (await app.fleet.ping(within=0.5)).ok
            True
        """
        workers = await self.workers(within=within)
        return await ping_of(self._client.runtime, workers)

    async def purge(self, queue: str, *, export: BinaryIO | None = None) -> "Moved":
        """Remove the jobs that wait in a queue, of all its priorities, for good.

        Jobs that run, that workers have received, and that are delayed are not in the queue, and
        stay. Dead letters stay.

        Args:
            queue: the name of a queue of the app.
            export: a file: each job is written there as a line of JSON, and removed once it is safe
                (`fsync`). ``amqpjobs dead import FILE --to QUEUE`` brings them back.

        Returns:
            What was removed: its ``done``, and by AMQP queue its ``targets``.

        Raises:
            ConfigurationError: there is no such queue.
            NotPermitted: this user may not read it.
            BrokerUnavailable: the connection was lost; with ``export`` all else stays.
            OSError: it cannot be written; what was not safe stays.

        Example:
            >>> (await app.fleet.purge("reports")).done
            0
        """
        return await purge_queue(self._client.runtime, self._queue(queue), export)

    async def count(self, queue: str) -> int:
        """How many jobs wait in a queue, of all its priorities.

        Raises:
            ConfigurationError: there is no such queue.

        Example:
            >>> await app.fleet.count("reports")
            0
        """
        return await count_ready(self._client.runtime, self._queue(queue))

    def _queue(self, name: str) -> Queue:
        if not isinstance(name, str):
            raise ConfigurationError(f"the name of a queue is a string, not {name!r}")
        return self._client.runtime.registry.choose((name,))[0]

    async def _change(self, queue: str, change: Callable[[Hold | None], Hold | None]) -> list[str]:
        """Replace what is set for one queue, and notify its workers."""
        self._queue(queue)
        now = self._client.runtime.clock.time()

        def changed(body: bytes | None) -> bytes:
            known: Mapping[str, Hold] = {}
            with suppress(DecodeError):  # one that no worker can read either is replaced
                known = {} if body is None else read_holds(body)
            left = {name: hold.at(now) for name, hold in known.items()}
            left[queue] = change(left.get(queue))
            return encode_holds(hold for hold in left.values() if hold is not None)

        settings = self._client.runtime.settings
        async with connected(settings, "pause") as wire, self._client.lifespan():
            publication = (await self._client.publisher()).publication

            async def publish(to: str, body: bytes) -> None:
                properties = Properties(content_type=JSON, delivery_mode=PERSISTENT)
                await publication.publish("", to, properties, body, settings.publish_timeout)

            await change_marker(wire, publish, changed)
            answers = await broadcast(
                self._client, HOLDS_CHANGED, queue, within=FOLLOWED, quiet=QUIET
            )
        return sorted({answer.decode(errors="replace") for answer in answers})


def _who(by: str | None) -> str:
    if by is not None:
        if not isinstance(by, str):
            raise ConfigurationError(f"by is a text: who does it, not {by!r}")
        return by[:LONGEST_BY]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

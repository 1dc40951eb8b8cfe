"""Lists, replays, edits and discards dead letters.

Changes when there is another operation on dead letters.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.client.deadletters.announcing import announce_replay
from amqpjobs.client.deadletters.edited import Editing, check_body, with_body
from amqpjobs.client.deadletters.export import Writer, read_lines, send_lines
from amqpjobs.client.deadletters.letter import Grouping, Kind, Letter, Place
from amqpjobs.client.deadletters.mover import Mover
from amqpjobs.client.deadletters.replay import (
    absent,
    check_durable,
    check_there,
    durable_headers,
    homes_in,
    send,
)
from amqpjobs.client.deadletters.report import Look, Moved
from amqpjobs.client.deadletters.selection import EVERYTHING, Choice, Selection, whole_ids
from amqpjobs.client.deadletters.traversal import Same, Way
from amqpjobs.errors import ConfigurationError, PublishError
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.queue import Queue, keeps_failed, lanes_of
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE

if TYPE_CHECKING:
    from amqpjobs.client.client import Client

GIVEN_BACK = (0.1, 0.4, 1.0)
"""Seconds between two looks for a letter. What whoever looked before has given back is there again
a moment after that connection was closed."""

HELD_FOR = 60.0
"""Seconds that a letter is held before its turn, when their rate is bounded."""

OnProgress: TypeAlias = Callable[[Moved], None]
"""Called after each letter, from the event loop and quickly, with what was done so far."""


class DeadLetters:
    """The dead letters of some queues of an app: ``app.dead_letters("receipts")``.

    Each method opens connections of its own and closes them. While one goes through a queue it
    holds what it has seen; another command at the same time sees the rest, and reports it.
    All that is not taken out is at its place when the method returns. A method that is cancelled
    first waits for the confirms of what it has sent, and acks that; all else stays.

    Args:
        client: whose letters.
        queues: of its app.
        kind: ``dead``, ``parked`` for jobs that no worker knew, ``unroutable`` for what was delayed
            for a queue that is gone.

    Attributes:
        places: where it looks, in order.
    """

    def __init__(self, client: "Client", queues: list[Queue], kind: Kind = "dead") -> None:
        self._client = client
        self._registry = client.runtime.registry
        self._settings = client.runtime.settings
        self._lanes = _lanes(self._registry.queues.values())
        self._of: frozenset[str] = frozenset()
        if kind == "unroutable":
            self.places = [Place(kind, DELAY_UNROUTABLE)]
            if len(queues) < len(self._registry.queues):
                self._of = _lanes(queues)
        elif kind == "parked":
            self.places = [Place(kind, q.parked, q.name) for q in queues if keeps_failed(q)]
        else:
            self.places = [Place(kind, q.dead, q.name) for q in queues if keeps_failed(q)]

    def __repr__(self) -> str:
        return f"<DeadLetters in {', '.join(place.name for place in self.places)}>"

    async def look(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None, bodies: bool = True
    ) -> Look:
        """Return the selected dead letters, and their groups.

        Args:
            limit: of letters from each place; None for all, which are all in memory then.
            bodies: whether to keep these, too.

        Raises:
            TopologyMismatch: a place does not exist.
            BrokerUnavailable: the connection was lost.
        """
        look, choice, grouping = Look(), self.choice(selection), Grouping()
        async with connected(self._settings, "inspect") as wire:
            for place in self.places:
                found: list[Letter] = []

                async def keep(
                    letter: Letter, _: HeldDelivery, found: list[Letter] = found
                ) -> bool:
                    if limit is not None and len(found) >= limit:
                        look.more = True
                        return False
                    found.append(letter)
                    return True

                await Way(wire, [place], self._lanes, bodies).go(choice, look, keep)
                look.letters += found
        for letter in look.letters:
            grouping.add(letter)
        look.groups, look.missing = grouping.groups(), choice.missing
        return look

    async def groups(self, selection: Selection = EVERYTHING) -> Look:
        """Return the groups of the selected dead letters. Memory holds one letter of each group.

        Raises:
            TopologyMismatch: a place does not exist.
            BrokerUnavailable: the connection was lost.
        """
        look, choice, grouping = Look(), self.choice(selection), Grouping()
        async with connected(self._settings, "inspect") as wire:
            await self.way(wire).count(choice, look, grouping.add)
        look.groups, look.missing = grouping.groups(), choice.missing
        return look

    async def replay(
        self,
        selection: Selection,
        *,
        to: str | None = None,
        rate: float | None = None,
        dry_run: bool = False,
        from_step: str | None = None,
        restart: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Moved:
        """Requeue dead letters where they came from: published, confirmed, and only then acked.

        They get another life: attempts are counted from 1 again, the deadline is gone, the epoch is
        one more, and what they died of is the last of their history. A letter whose queue is not
        there stays, and so does all that RabbitMQ does not take. If this process dies, none is
        lost, and at most `moving.WINDOW` letters (500) were sent and are still there, too. To go on
        after an interruption, call it again.

        Args:
            to: an AMQP queue to send all of them to instead.
            rate: letters a second, at most.
            dry_run: only say what would be done.
            from_step: for durable jobs: run this step, and those that began after it, again.
            restart: for durable jobs: run all steps again. By default they resume.

        Raises:
            ConfigurationError: there is no queue ``to``; or a beginning of ids begins several; or
                `from_step` or `restart` for a job that is not durable. Nothing was sent.
            BrokerUnavailable: the connection was lost; all else stays.
        """
        more = durable_headers(from_step, restart=restart)
        moved, choice = Moved(), await self._exactly(selection)
        if more is not None:
            check_durable((await self.groups(selection)).groups, self._registry.jobs)
        async with connected(self._settings, "replay") as wire:
            if to is not None:
                await self._check_target(wire, to)
            if dry_run:
                await self._count(wire, choice, moved, lambda letter: to or letter.target)
                moved.absent = await absent(wire, moved.targets)
                return moved
            async with self.mover(rate, replays=True) as mover:

                async def replay(letter: Letter, delivery: HeldDelivery) -> bool:
                    await send(mover, letter, delivery, moved, to, on_progress, more)
                    return mover.broken is None

                page = max(1, int(rate * HELD_FOR)) if rate else None
                await self.way(wire, mover.drain, page).go(choice, moved, replay)
        moved.missing, moved.stopped = choice.missing, mover.broken is not None
        return moved

    async def replace(self, letter: Letter, body: bytes, *, to: str | None = None) -> bool:
        """Replay one dead letter with another body, which `check_body` has passed.

        Args:
            letter: as `look` has found it, with its body.
            to: an AMQP queue to send it to instead of its own.

        Returns:
            False if it is gone: another command holds it, or removed it.

        Raises:
            PublishError: RabbitMQ did not take it; the letter stays as it was.
            ConfigurationError: there is no queue ``to``.
        """
        changed = with_body(self._registry, letter, body)
        moved = Moved()
        async with connected(self._settings, "replay") as wire:
            if to is not None:
                await self._check_target(wire, to)
            async with self.mover(replays=True) as mover:

                async def replay(_: Letter, delivery: HeldDelivery) -> bool:
                    await send(mover, changed, delivery, moved, to)
                    return False

                for pause in (*GIVEN_BACK, None):
                    await self.way(wire, mover.drain).go(Same(letter), moved, replay)
                    if pause is None or moved.done + moved.doubtful + moved.failed:
                        break
                    await asyncio.sleep(pause)
        if moved.failed:
            raise mover.broken or PublishError(next(iter(moved.errors)), message_id=letter.id)
        return moved.done + moved.doubtful > 0

    async def discard(
        self,
        selection: Selection,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Moved:
        """Discard dead letters for good.

        Args:
            limit: of letters, the oldest of the first place first: no more than somebody has
                agreed to.
            dry_run: only count them.

        Raises:
            ConfigurationError: a beginning of ids begins several.
            BrokerUnavailable: the connection was lost; all else stays.
        """
        moved, choice = Moved(), await self._exactly(selection)
        async with connected(self._settings, "discard") as wire:
            if dry_run:
                await self._count(wire, choice, moved, lambda letter: letter.place)
                return moved

            async def drop(letter: Letter, delivery: HeldDelivery) -> bool:
                if limit is not None and moved.done >= limit:
                    return False
                delivery.ack()
                moved.succeed(letter.place)
                if on_progress is not None:
                    on_progress(moved)
                return True

            await self.way(wire).go(choice, moved, drop)
        moved.missing = choice.missing
        return moved

    async def export(
        self,
        selection: Selection,
        out: BinaryIO,
        *,
        remove: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Moved:
        """Write dead letters as lines of JSON (`deadletters.lines`), whole.

        Args:
            out: where to; with ``remove`` a file.
            remove: take out what was written, after it was made safe by `fsync`.

        Raises:
            OSError: it cannot be written; what was not safe stays.
            ConfigurationError: a beginning of ids begins several.
            BrokerUnavailable: the connection was lost; all else stays.
        """
        moved, choice = Moved(), await self._exactly(selection)
        writer = Writer(out, remove=remove, moved=moved)
        async with connected(self._settings, "export") as wire:

            async def write(letter: Letter, delivery: HeldDelivery) -> bool:
                await writer.write(letter, delivery)
                if on_progress is not None:
                    on_progress(moved)
                return True

            await self.way(wire, writer.settle).go(choice, moved, write)
        moved.missing = choice.missing
        return moved

    async def import_lines(
        self, file: BinaryIO, *, to: str | None = None, on_progress: OnProgress | None = None
    ) -> Moved:
        """Import exported dead letters into their queues, each published and confirmed.

        Args:
            file: read twice: every line is checked before the first is sent.
            to: an AMQP queue for all of them; None for the one that each was in, which is one of
                this app's.

        Returns:
            What was done; its ``refused`` is the first line that RabbitMQ did not take, with the
            lines before it all taken, and of those behind it at most `moving.WINDOW`.

        Raises:
            ConfigurationError: a line that is no letter, or is from a queue that is not this app's
                or not there. Nothing was sent.
        """
        moved = Moved()
        places = None if to is not None else homes_in(self._registry.queues.values())
        targets = {to or line.place: None for _, line in read_lines(file, places)}
        file.seek(0)
        async with connected(self._settings, "import") as wire, self.mover() as mover:
            await check_there(wire, targets)
            await send_lines(read_lines(file, places), mover, moved, to, on_progress)
        return moved

    def check_body(self, letter: Letter, body: bytes) -> None:
        """Check that the job of a dead letter could run with this body.

        Raises:
            UnknownJob: it names no job of this app.
            DecodeError: it does not fit, or is too large; says where, and never shows the values.
        """
        check_body(self._registry, self._settings.max_message_size, letter, body)

    def choice(self, selection: Selection, *, ids_are_whole: bool = False) -> Choice:
        """A selection at work, on these queues alone."""
        if self._of and not selection.queues:
            selection = replace(selection, queues=self._of)
        return Choice(selection, ids_are_whole=ids_are_whole)

    def way(
        self,
        wire: Wire,
        finish: Callable[[], Awaitable[None]] | None = None,
        page: int | None = None,
    ) -> Way:
        """The way through these places, see `Way`."""
        way = Way(wire, self.places, self._lanes)
        if finish is not None:
            way = replace(way, finish=finish)
        return way if page is None else replace(way, page=page)

    @asynccontextmanager
    async def mover(
        self, rate: float | None = None, *, replays: bool = False
    ) -> AsyncIterator[Mover]:
        """What sends, on the connection for publishing; and tells of it, if these are replays."""
        async with self._client.lifespan():
            publisher = await self._client.publisher()

            def told(properties: Properties) -> None:
                definition = self._registry.jobs.get(properties.type or "")
                if replays and definition is not None and definition.track:
                    announce_replay(publisher.announcements, properties, definition.queue.name)

            timeout = self._settings.publish_timeout
            mover = Mover(publisher.publication, timeout, rate=rate, on_sent=told)
            try:
                yield mover
            finally:
                await mover.drain()

    async def _exactly(self, selection: Selection) -> Choice:
        """A choice that takes one job by how its id begins, and never two."""
        if not selection.beginnings:
            return self.choice(selection)
        beginning = replace(selection, which=selection.beginnings)
        found = await self.look(beginning, bodies=False)
        ids = whole_ids(selection.beginnings, found.letters)
        return self.choice(selection.exactly(ids), ids_are_whole=True)

    async def _count(
        self, wire: Wire, choice: Choice, moved: Moved, target: Callable[[Letter], str]
    ) -> None:
        await self.way(wire).count(choice, moved, lambda letter: moved.succeed(target(letter)))
        moved.missing = choice.missing

    async def _check_target(self, wire: Wire, to: str) -> None:
        if to in {place.name for place in self.places}:
            raise ConfigurationError(f"{to!r} already holds these dead letters")
        await check_there(wire, [to])


def editing(dead_letters: DeadLetters) -> Editing:
    """What makes text of bodies, and bodies of text."""
    return Editing(dead_letters._registry, dead_letters._settings.max_message_size)


def _lanes(queues: Iterable[Queue]) -> frozenset[str]:
    return frozenset(lane.queue for queue in queues for lane in lanes_of(queue))

"""Messages sent alone: RabbitMQ closed a channel over one of them, and does not say which.

Each is sent by itself, on a channel that nothing else needs, so that only its own error is its own.
Changes when RabbitMQ says more, or when another message is suspect.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.broker.rabbitmq.calls import close_channel
from amqpjobs.broker.rabbitmq.confirms import ConfirmChannel, Fate, Outgoing
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.permission_errors import is_refusal, refusal_of
from amqpjobs.errors import BrokerUnavailable, NotConfirmed, PublishError, PublishRejected

log = logging.getLogger("amqpjobs.rabbitmq")

CONFIRM_TIMEOUT = 5.0
"""Seconds for the confirm of one message before it is the next one's turn."""

LIVES = 2
"""Connections that RabbitMQ may end with an error of its own while one message is on its way alone.
3.10 does so over an answer to an address for direct replies that is none: INTERNAL_ERROR."""

CLOSE_TIMEOUT = 2.0
"""Seconds for RabbitMQ to answer that the channel is closed."""

AGAIN = 1.0
"""Seconds before a channel is asked for again, where there was none."""


class Trials:
    """Sends suspects one at a time. It costs nothing while there are none.

    Args:
        link: of the publication, so that the user and the rights are the same.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: OrderedDict[Fate, Outgoing] = OrderedDict()
        self._lives: dict[Fate, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._channel: ConfirmChannel | None = None
        self._underlay: Any = None
        self._open = asyncio.Event()
        self._open.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Trials: {len(self)} messages wait for theirs>"

    def add(self, outgoing: Outgoing) -> None:
        """Send a message alone, as soon as it is its turn."""
        self._waiting[outgoing.fate] = outgoing
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="amqpjobs trials")

    def block(self, blocked: bool) -> None:
        """RabbitMQ takes nothing now, or takes messages again."""
        if blocked:
            self._open.clear()
        else:
            self._open.set()

    def close(self) -> list[Outgoing]:
        """Send nothing more; what has no fate yet."""
        if self._task is not None:
            self._task.cancel()
        waiting, self._waiting = list(self._waiting.values()), OrderedDict()
        return waiting

    async def _run(self) -> None:
        hopeless: dict[str, str] = {}
        try:
            while self._waiting:
                fate, outgoing = next(iter(self._waiting.items()))
                words = hopeless.get(outgoing.exchange)
                if words is not None and not fate.done():
                    fate.set_exception(_refused(outgoing, words))
                elif not fate.done() and not await self._tried(outgoing, hopeless):
                    continue
                self._waiting.pop(fate, None)
                self._lives.pop(fate, None)
        except Exception:
            log.critical("a bug in amqpjobs", extra={"during": "publish"}, exc_info=True)
        finally:
            # No await before all of this is done: what is added from then on has a task of its own.
            self._task = None
            waiting, self._waiting = self._waiting, OrderedDict()
            for outgoing in waiting.values():
                _tell(outgoing, _unknown(outgoing, "it was given up"))
            await self._leave()

    async def _tried(self, outgoing: Outgoing, hopeless: dict[str, str]) -> bool:
        """Send one; whether its fate is known now. If not, the connection was lost over it."""
        channel = await self._channel_for()
        if channel is None:
            return False
        verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alone = Outgoing(
            outgoing.exchange, outgoing.routing_key, outgoing.properties, outgoing.body, verdict,
            outgoing.mandatory,
        )  # fmt: skip
        channel.transmit(alone)
        closed = asyncio.ensure_future(channel.closed.wait())
        try:
            await asyncio.wait(
                (verdict, closed), timeout=CONFIRM_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            closed.cancel()
        if verdict.done():
            _tell(outgoing, verdict.exception())
            return True
        verdict.cancel()
        if not channel.closed.is_set():
            channel.forget_given_up()
            _tell(outgoing, _unknown(outgoing, "the broker did not answer"))
            return True
        await self._leave()
        return self._judged(outgoing, channel, hopeless)

    def _judged(
        self, outgoing: Outgoing, channel: ConfirmChannel, hopeless: dict[str, str]
    ) -> bool:
        """What it means that the channel is closed."""
        words, failure = channel.error, channel.connection_error
        if words is None and failure is None:
            return False  # the connection went, and not over a message
        if words is None:
            lives = self._lives[outgoing.fate] = self._lives.get(outgoing.fate, 0) + 1
            if lives >= LIVES:
                _tell(outgoing, _refused(outgoing, f"{failure}, each of {lives} times"))
            return lives >= LIVES
        if _is_of_the_exchange(words):
            hopeless[outgoing.exchange] = words
        _tell(outgoing, _refused(outgoing, words))
        return True

    async def _channel_for(self) -> ConfirmChannel | None:
        await self._open.wait()
        if self._channel is not None and not self._channel.closed.is_set():
            return self._channel
        await self._leave()
        wire = await self._link.up()
        try:
            underlay = await wire.channel(confirms=True)
        except (BrokerUnavailable, aiormq_errors.AMQPError) as error:
            end_if_cancelled()
            log.warning("no channel to publish on", extra={"error": repr(error)})
            await asyncio.sleep(AGAIN)
            return None
        self._underlay = underlay
        self._channel = ConfirmChannel(wire, underlay, _nothing_waits)
        return self._channel

    async def _leave(self) -> None:
        channel, self._channel = self._channel, None
        underlay, self._underlay = self._underlay, None
        if channel is None:
            return
        channel.give_up()
        await close_channel(underlay, CLOSE_TIMEOUT)


def _tell(outgoing: Outgoing, error: BaseException | None) -> None:
    if outgoing.fate.done():
        return
    if error is None:
        outgoing.fate.set_result(None)
    else:
        outgoing.fate.set_exception(error)


def _unknown(outgoing: Outgoing, why: str) -> NotConfirmed:
    return NotConfirmed(
        f"not confirmed: {why}; it may have arrived",
        message_id=outgoing.properties.message_id,
        sent=True,
    )


def _refused(outgoing: Outgoing, words: str) -> PublishError:
    said = str(refusal_of(words, "write")) if is_refusal(words) else words
    return PublishRejected(
        f"RabbitMQ closed the channel: {said}",
        message_id=outgoing.properties.message_id,
        for_good=not _is_of_the_exchange(words),
    )


def _is_of_the_exchange(words: str) -> bool:
    """Whether it was refused for where it goes, and not for what it is."""
    return is_refusal(words) or words.startswith("NOT_FOUND")


def _nothing_waits() -> None:
    """There is room for one message, and it is known when that is over."""

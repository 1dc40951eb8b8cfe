"""Making a topology real, or checking that it is. Never deletes or changes anything.

Each declaration has a channel of its own where it may fail: RabbitMQ answers a difference by
closing the channel. Changes when declaring does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from aiormq import exceptions as aiormq_errors
from aiormq.abc import AbstractChannel

from amqpjobs.errors import (
    BrokerUnavailable,
    ConfigurationError,
    NotPermitted,
    TopologyMismatch,
)
from amqpjobs.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.rabbitmq.connection import Wire
from amqpjobs.rabbitmq.refusals import not_to_be_looked_at, refusal_of
from amqpjobs.topology import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    Topology,
)

TIMEOUT = 15.0
"""Seconds for one declaration; a quorum queue in a cluster elects its leader first."""

Declaration = ExchangeDeclaration | QueueDeclaration | BindingDeclaration

_REFUSALS = (
    aiormq_errors.ChannelPreconditionFailed,
    aiormq_errors.ChannelAccessRefused,
    aiormq_errors.ChannelNotFoundEntity,
    aiormq_errors.ChannelLockedResource,
)
"""What is said of one queue or exchange, and costs its channel only."""

State = Literal["present", "missing", "different", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found of one declaration.

    Attributes:
        entity: such as ``queue 'thumbnails'``.
        state: ``unknown`` where AMQP cannot tell without permission to declare.
        difference: the broker's words, where it is different.
    """

    entity: str
    state: State
    difference: str = ""


class Declarer:
    """Declares on one wire; keeps one channel and opens a new one after each refusal."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._channel: AbstractChannel | None = None

    async def __aenter__(self) -> "Declarer":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._channel is not None and not self._channel.is_closed:
            # Shielded: aiormq closes a channel again whose closing is cancelled, RabbitMQ takes the
            # second for an error of the connection, and the cancellation may get lost.
            closing = asyncio.ensure_future(self._channel.close())
            closing.add_done_callback(_look_at)
            with suppress(*FAILURES), from_broker():
                await asyncio.shield(closing)

    async def apply(self, topology: Topology, *, strictly: bool = False) -> None:
        """Declare what is missing. Without permission to declare, check that it is there.

        Bindings cannot be looked at: those of what somebody else declares are taken for made.

        Args:
            strictly: a missing permission is an error, whatever is there already.

        Raises:
            TopologyMismatch: something is there with other arguments, or missing and not ours to
                make.
            NotPermitted: this user may declare something, and not what belongs to it; or may not
                even look.
        """
        declarations: list[Declaration] = [*_entities(topology), *topology.bindings]
        others: set[str] = set()
        for declaration in declarations:
            try:
                await self._do(declaration)
            except aiormq_errors.ChannelPreconditionFailed as error:
                raise _mismatch(declaration, str(error)) from error
            except aiormq_errors.ChannelAccessRefused as error:
                refusal = refusal_of(error, partial(_needs, declaration))
                if strictly or _belongs_to_us(declaration, others):
                    raise refusal from error
                if not isinstance(declaration, BindingDeclaration):
                    others.add(declaration.name)
                    await self._require(declaration, refusal)

    async def require(self, topology: Topology) -> None:
        """Check that all of it is there, declaring nothing.

        Raises:
            TopologyMismatch: something is missing.
            NotPermitted: this user may not even look.
        """
        for declaration in _entities(topology):
            await self._require(declaration)

    async def check(self, topology: Topology) -> list[Finding]:
        """Compare, changing nothing. Arguments can only be compared by whoever may declare."""
        return [await self._compare(declaration) for declaration in _entities(topology)]

    async def look(self, queue: str) -> Any:
        """The broker's `queue.declare-ok`: how many messages are ready, how many consume.

        Raises:
            TopologyMismatch: there is no such queue.
            NotPermitted: this user may not look at it.
        """
        return await self._require(QueueDeclaration(queue, {}))

    async def _compare(self, declaration: ExchangeDeclaration | QueueDeclaration) -> Finding:
        entity = _entity(declaration)
        try:
            await self._do(declaration, passive=True)
        except aiormq_errors.ChannelNotFoundEntity:
            return Finding(entity, "missing")
        except aiormq_errors.ChannelAccessRefused as error:
            return Finding(entity, "unknown", str(error))
        try:
            # It is there, so that declaring it makes nothing: it only compares the arguments.
            await self._do(declaration)
        except aiormq_errors.ChannelPreconditionFailed as error:
            return Finding(entity, "different", _difference(str(error)))
        except aiormq_errors.ChannelAccessRefused:
            return Finding(entity, "present", "arguments not compared: no permission to declare")
        return Finding(entity, "present")

    async def _require(
        self, declaration: ExchangeDeclaration | QueueDeclaration, why: NotPermitted | None = None
    ) -> Any:
        try:
            return await self._do(declaration, passive=True)
        except aiormq_errors.ChannelNotFoundEntity as error:
            raise TopologyMismatch(
                f"{_entity(declaration)} does not exist, and this user may not declare it: run "
                "`amqpjobs topology apply` as a user with the configure permission"
                + (f" ({why})" if why is not None else ""),
                entity=_entity(declaration),
                difference="missing",
            ) from error
        except aiormq_errors.ChannelAccessRefused as error:
            raise not_to_be_looked_at(error) from error

    async def _do(self, declaration: Declaration, *, passive: bool = False) -> Any:
        try:
            return await self.call(lambda channel: _declare(channel, declaration, passive))
        except ValueError as error:
            # Of pamqp, which is stricter than RabbitMQ.
            raise ConfigurationError(
                f"{_entity(declaration)}: its name cannot be declared. Names are made of ASCII "
                "letters and digits, spaces, and - _ . : @ # , / +"
            ) from error

    async def call(self, action: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        """Run one channel method, on a fresh channel if the last one was closed over an error.

        Raises:
            BrokerUnavailable: the connection went away, or the broker did not answer.
        """
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._wire.channel()
        try:
            with from_broker():
                async with asyncio.timeout(TIMEOUT):
                    return await action(self._channel)
        except _REFUSALS:
            self._channel = None
            raise
        except FAILURES as error:
            self._channel = None
            raise BrokerUnavailable(f"the broker did not answer: {error!r}") from error


async def _declare(channel: AbstractChannel, declaration: Declaration, passive: bool) -> Any:
    match declaration:
        case ExchangeDeclaration(name, kind, arguments):
            return await channel.exchange_declare(
                name, exchange_type=kind, durable=True, passive=passive, arguments=dict(arguments)
            )
        case QueueDeclaration(name, arguments):
            return await channel.queue_declare(
                name, durable=True, passive=passive, arguments=dict(arguments)
            )
        case BindingDeclaration(exchange, target, routing_key, "queue"):
            return await channel.queue_bind(target, exchange, routing_key)
        case BindingDeclaration(exchange, target, routing_key):
            return await channel.exchange_bind(target, exchange, routing_key=routing_key)


def _entities(topology: Topology) -> list[ExchangeDeclaration | QueueDeclaration]:
    return [*topology.exchanges, *topology.queues]


def _entity(declaration: Declaration) -> str:
    match declaration:
        case ExchangeDeclaration(name):
            return f"exchange {name!r}"
        case QueueDeclaration(name):
            return f"queue {name!r}"
        case BindingDeclaration(exchange, target):
            return f"binding of {target!r} to {exchange!r}"


def _belongs_to_us(declaration: Declaration, others: set[str]) -> bool:
    """Whether this is a binding between what this user did declare. Nobody else would make it, and
    nothing would tell that it is not there."""
    return isinstance(declaration, BindingDeclaration) and not (
        {declaration.target, declaration.exchange} & others
    )


def _needs(declaration: Declaration, refused: str) -> str:
    """The permission for a queue or an exchange that RabbitMQ 3.10 names without it."""
    match declaration:
        case BindingDeclaration(_, target):
            return "write" if refused == target else "read"
        case ExchangeDeclaration(name, _, arguments) | QueueDeclaration(name, arguments):
            if refused != name:
                return "write"  # where its dead letters go, or what it does not route
            # With these arguments reading is asked for, too.
            others = {"alternate-exchange", "x-dead-letter-exchange"} & set(arguments)
            return "configure or read" if others else "configure"


def _mismatch(declaration: Declaration, text: str) -> TopologyMismatch:
    entity, difference = _entity(declaration), _difference(text)
    return TopologyMismatch(
        f"{entity} is there with other arguments: {difference}. Nothing was changed: make the "
        "declaration agree with it, or move its messages away, delete it, and run "
        "`amqpjobs topology apply`",
        entity=entity,
        difference=difference,
    )


def _difference(text: str) -> str:
    """``inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is
    the value '5' of type 'long'`` in our words; RabbitMQ names only the first that differs."""
    found = re.search(r"inequivalent arg '([^']+)'.*?: received (.*) but current is (.*)", text)
    if not found:
        return text.removeprefix("PRECONDITION_FAILED - ")
    wanted, current = (
        re.sub(r"^the value (.*) of type '\w+'$", r"\1", v) for v in found.groups()[1:]
    )
    return f"{found[1]}: wanted {wanted}, found {current}"


def _look_at(closing: "asyncio.Future[None]") -> None:
    """Its error, if any, is of no matter to whoever was cancelled meanwhile."""
    if not closing.cancelled():
        closing.exception()

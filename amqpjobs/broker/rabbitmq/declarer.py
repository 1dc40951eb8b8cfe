"""Declares a topology, or checks that it is there. Never deletes or changes anything.

Each declaration has a channel of its own where it may fail: RabbitMQ answers a difference by
closing the channel. Changes when declaring does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from aiormq import exceptions as aiormq_errors
from aiormq.abc import AbstractChannel

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.broker.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.node_errors import dead_lettering_ended
from amqpjobs.broker.rabbitmq.permission_errors import not_to_be_looked_at, refusal_of
from amqpjobs.broker.rabbitmq.single_channel import single_mismatch
from amqpjobs.errors import (
    AmqpJobsError,
    BrokerUnavailable,
    ConfigurationError,
    NotPermitted,
    TopologyMismatch,
)
from amqpjobs.jobs.queue.topology import (
    SINGLE,
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    Topology,
)

TIMEOUT = 15.0
"""Seconds for one declaration; a quorum queue in a cluster elects its leader first."""

MANY = 16
"""So many declarations are made over several channels; fewer are not worth opening them."""

MOST_CHANNELS = 8
"""That declare side by side."""

Declaration = ExchangeDeclaration | QueueDeclaration | BindingDeclaration

T = TypeVar("T")
R = TypeVar("R")

_REFUSALS = (
    aiormq_errors.ChannelPreconditionFailed,
    aiormq_errors.ChannelAccessRefused,
    aiormq_errors.ChannelNotFoundEntity,
    aiormq_errors.ChannelLockedResource,
)
"""What is said of one queue or exchange, and costs its channel only."""

State = Literal["present", "missing", "different", "left over", "unknown"]


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
        others: set[str] = set()

        async def one(declarer: Declarer, declaration: Declaration) -> None:
            await declarer._apply(declaration, others, strictly=strictly)

        ours = [each for each in topology.exchanges if each.name.startswith("amqpjobs.")]
        late = [each for each in topology.exchanges if each not in ours]  # unbound, they drop
        kinds: list[Sequence[Declaration]] = [ours, topology.queues, late, topology.bindings]
        for kind in kinds:
            await self.side_by_side(kind, one)

    async def _apply(self, declaration: Declaration, others: set[str], *, strictly: bool) -> None:
        if not isinstance(declaration, BindingDeclaration) and declaration.foreign:
            if isinstance(declaration, QueueDeclaration):
                others.add(declaration.name)
            await self._require(declaration)
            return
        try:
            await self._do(declaration)
        except aiormq_errors.ChannelPreconditionFailed as error:
            raise _mismatch(declaration, str(error)) from error
        except BrokerUnavailable as error:
            raise dead_lettering_ended(error, declaration) or error from error.__cause__
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
        await self.side_by_side(_entities(topology), Declarer._require)

    async def check(self, topology: Topology) -> list[Finding]:
        """Compare, changing nothing. Arguments can only be compared by whoever may declare."""
        return await self.side_by_side(_entities(topology), Declarer._compare)

    async def look(self, queue: str) -> Any:
        """The broker's `queue.declare-ok`: how many messages are ready, how many consume.

        Raises:
            TopologyMismatch: there is no such queue.
            NotPermitted: this user may not look at it.
        """
        return await self._require(QueueDeclaration(queue, {}))

    async def look_at_all(self, queues: Iterable[str]) -> dict[str, Any]:
        """The same for many queues; None for one that does not exist.

        Raises:
            NotPermitted: this user may not look at one of them.
        """

        async def one(declarer: Declarer, queue: str) -> Any:
            try:
                return await declarer.look(queue)
            except TopologyMismatch:
                return None

        names = list(dict.fromkeys(queues))
        return dict(zip(names, await self.side_by_side(names, one), strict=True))

    async def side_by_side(
        self, things: Sequence[T], do: Callable[["Declarer", T], Awaitable[R]]
    ) -> list[R]:
        """Do something with each, over a few channels if there are many: a channel waits for each
        answer. The results are in the order of the things.

        Raises:
            AmqpJobsError: what failed, the first in that order; what was not begun then is left.
        """
        if len(things) < MANY:
            return [await do(self, thing) for thing in things]
        todo, done = iter(enumerate(things)), dict[int, R]()
        errors: dict[int, Exception] = {}

        async def work(declarer: Declarer) -> None:
            async with declarer:
                for place, thing in todo:
                    try:
                        done[place] = await do(declarer, thing)
                    except (AmqpJobsError, *FAILURES) as error:
                        end_if_cancelled()
                        errors[place] = error
                    if errors:
                        return

        async with asyncio.TaskGroup() as group:
            for _ in range(self._wire.channels_for(MOST_CHANNELS)):
                group.create_task(work(Declarer(self._wire)))
        if errors:
            raise errors[min(errors)]
        return [done[place] for place in range(len(things))]

    async def _compare(self, declaration: ExchangeDeclaration | QueueDeclaration) -> Finding:
        entity = _entity(declaration)
        try:
            await self._do(declaration, passive=True)
        except aiormq_errors.ChannelNotFoundEntity:
            return Finding(entity, "missing")
        except aiormq_errors.ChannelAccessRefused as error:
            return Finding(entity, "unknown", str(error))
        if declaration.foreign:
            return Finding(entity, "present", "declared by its owner")
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
            if declaration.foreign:
                raise _foreign_missing(declaration) from error
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
        case BindingDeclaration(exchange, target, routing_key, "queue", arguments):
            headers: Any = dict(arguments)
            return await channel.queue_bind(target, exchange, routing_key, arguments=headers)
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


def _foreign_missing(declaration: ExchangeDeclaration | QueueDeclaration) -> TopologyMismatch:
    entity = _entity(declaration)
    return TopologyMismatch(
        f"{entity} does not exist. It is foreign: its owner has to declare it, in this virtual "
        "host. Is the name right? If this app is its owner, leave out foreign=True",
        entity=entity,
        difference="missing",
    )


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
    limit = re.search(r"queue limit in (.+) \((\d+)\) is reached", text)
    if limit is not None:
        return TopologyMismatch(
            f"{entity} could not be made: the limit of {limit[2]} queues in {limit[1]} is reached. "
            "Raise it with `rabbitmqctl set_vhost_limits -p VHOST '{\"max-queues\": N}'`, or "
            "delete queues that nothing uses",
            entity=entity,
            difference="missing",
        )
    if difference.startswith("invalid arg "):
        return TopologyMismatch(
            f"{entity} cannot be declared: {difference}. This version of RabbitMQ has no such "
            "argument, or not with this value: change or leave out what arguments= says",
            entity=entity,
            difference=difference,
        )
    if difference.startswith(SINGLE) and isinstance(declaration, QueueDeclaration):
        text = single_mismatch(entity, declaration.name, difference)
        return TopologyMismatch(text, entity=entity, difference=difference)
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


async def ensure(wire: Wire, topology: Topology, *, declare: bool) -> None:
    """Declare what is not there; or see that all of it is there.

    Raises:
        TopologyMismatch: something is missing or different.
    """
    async with Declarer(wire) as declarer:
        if declare:
            await declarer.apply(topology)
        else:
            await declarer.require(topology)

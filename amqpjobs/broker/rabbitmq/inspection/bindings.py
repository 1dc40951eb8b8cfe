"""The bindings of queues as RabbitMQ has them: compared with what an app declares, and removed.

AMQP itself cannot list bindings: the management API does. Changes when comparing does.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer, Finding
from amqpjobs.broker.rabbitmq.inspection.management_api import bindings_in
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of
from amqpjobs.jobs.queue.topology import BindingDeclaration, Topology
from amqpjobs.settings import Settings

_OURS = "amqpjobs."


def compare_bindings(
    settings: Settings, topology: Topology
) -> tuple[list[Finding], list[BindingDeclaration]]:
    """Compare the bindings of a topology's queues with those that RabbitMQ has.

    Args:
        settings: where RabbitMQ is.
        topology: what the app declares, and what it binds of others.

    Returns:
        What is missing of the queues that are there, or left over; and those that are left over.
        Queues that others declare have bindings of their owners: none of these is left over.

    Raises:
        NotAnswered: the management API does not answer.
    """
    rows = bindings_in(settings)
    there = {_key(each): each for each in map(_binding, rows) if each is not None}
    # Each queue is bound to the default exchange. Of one that is missing, that is said already.
    queues = {row.get("destination") for row in rows if row.get("destination_type") == "queue"}
    wanted = {_key(each): each for each in topology.bindings}
    own = {queue.name for queue in topology.queues if not queue.foreign}
    lacking = {key: each for key, each in wanted.items() if key not in there}
    missing = [each for each in lacking.values() if each.to == "exchange" or each.target in queues]
    left = [each for key, each in there.items() if key not in wanted and _is_event(each, own)]
    findings = [Finding(_entity(each), "missing") for each in missing]
    findings += [Finding(_entity(each), "left over", "not declared by the app") for each in left]
    return findings, left


async def remove_bindings(
    wire: Wire, settings: Settings, bindings: Iterable[BindingDeclaration]
) -> list[BindingDeclaration]:
    """Remove bindings of queues.

    Returns:
        Those that are still there: RabbitMQ compares the headers of a binding by their types, which
        the management API does not tell.

    Raises:
        NotPermitted: this user may not.
        BrokerUnavailable, NotAnswered: the broker did not answer.
    """
    asked = list(bindings)
    async with Declarer(wire) as declarer:
        for each in asked:
            await _unbind(declarer, each)
    there = {_key(each) for each in map(_binding, bindings_in(settings)) if each is not None}
    return [each for each in asked if _key(each) in there]


async def _unbind(declarer: Declarer, binding: BindingDeclaration) -> None:
    headers: Any = dict(binding.arguments)
    target = binding.target
    names = target, binding.exchange, binding.routing_key
    with suppress(aiormq_errors.ChannelNotFoundEntity):  # it is gone already
        try:
            await declarer.call(lambda channel: channel.queue_unbind(*names, headers))
        except aiormq_errors.ChannelAccessRefused as error:
            raise refusal_of(error, lambda name: "write" if name == target else "read") from error


def _binding(row: Mapping[str, Any]) -> BindingDeclaration | None:
    if row.get("destination_type") != "queue" or not row.get("source"):
        return None  # of the default exchange, or between exchanges
    arguments = row.get("arguments")
    return BindingDeclaration(
        str(row["source"]), str(row["destination"]), str(row.get("routing_key", "")),
        arguments=arguments if isinstance(arguments, dict) else {},
    )  # fmt: skip


def _key(binding: BindingDeclaration) -> tuple[object, ...]:
    # As text: of a number the API does not tell the type.
    arguments = sorted((name, str(value)) for name, value in binding.arguments.items())
    return (binding.exchange, binding.to, binding.target, binding.routing_key, *arguments)


def _is_event(binding: BindingDeclaration, own: set[str]) -> bool:
    """Whether it brings events to a queue of the app."""
    return binding.target in own and not binding.exchange.startswith(_OURS)


def _entity(binding: BindingDeclaration) -> str:
    what = dict(binding.arguments) or binding.routing_key
    return f"binding of {binding.target!r} to {binding.exchange!r} by {what!r}"

"""What `exchange.*` and `queue.*` do to the virtual host, and what they refuse.

Source: RabbitMQ's ``rabbit_channel:handle_method/6``. Changes when a declaration does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.broker.embedded.errors import (
    ACCESS_REFUSED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    Refusal,
    in_vhost,
)
from amqpjobs.broker.embedded.model.arguments import (
    check_queue_arguments,
    check_same,
    check_same_arguments,
    queue_keys,
    queue_type,
)
from amqpjobs.broker.embedded.model.classic import ClassicQueue
from amqpjobs.broker.embedded.model.direct_reply_to import PREFIX
from amqpjobs.broker.embedded.model.exchanges import TYPES, Exchange
from amqpjobs.broker.embedded.model.names import unique
from amqpjobs.broker.embedded.model.queues import Queue
from amqpjobs.broker.embedded.model.quorum import QuorumQueue
from amqpjobs.broker.embedded.model.terms import field_named

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.vhost import VirtualHost

Arguments: TypeAlias = Mapping[str, Any]

_RESERVED = "amq."
_NOT_DONE = ("x-local-random", "x-modulus-hash")  # exchanges that RabbitMQ 4.3 has
_DEFAULT_TYPE = {"x-queue-type": "classic"}
_ALTERNATE = "alternate-exchange"


def declare_exchange(
    vhost: "VirtualHost",
    name: str,
    kind: str,
    *,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Arguments,
) -> None:
    """Make an exchange, or see that the one there is is the same."""
    name = _stripped(name)
    if kind in _NOT_DONE and vhost.profile.version != "3.10":
        raise Refusal(NOT_IMPLEMENTED, f"the embedded broker has no exchanges of type '{kind}'")
    if kind not in TYPES:
        wrong = "unknown" if kind else "invalid"
        raise Refusal(vhost.profile.unknown_exchange_type, f"{wrong} exchange type '{kind}'")
    _not_default(name)
    known = vhost.exchanges.get(name)
    what = in_vhost("exchange", name, vhost.name)
    if known is None:
        _check_name("exchange", name)
        _check_text(arguments, _ALTERNATE, what)
        vhost.exchanges[name] = TYPES[kind](
            name,
            profile=vhost.profile,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
        )
        return
    check_same(what, known.type, kind, "type")
    check_same(what, known.durable, durable, "durable")
    check_same(what, known.auto_delete, auto_delete, "auto_delete")
    check_same(what, known.internal, internal, "internal")
    check_same_arguments(what, known.arguments, arguments, (_ALTERNATE,))


def delete_exchange(vhost: "VirtualHost", name: str, *, if_unused: bool) -> None:
    """Delete an exchange, if there is one."""
    name = _stripped(name)
    _not_default(name)
    if name.startswith(_RESERVED):
        what = in_vhost("exchange", name, vhost.name)
        raise Refusal(ACCESS_REFUSED, f"deletion of system {what} not allowed")
    exchange = vhost.exchanges.get(name)
    if exchange is None:
        return
    if if_unused and exchange.bindings:
        raise Refusal(PRECONDITION_FAILED, f"{in_vhost('exchange', name, vhost.name)} in use")
    vhost.delete_exchange(exchange)


def exchange_named(vhost: "VirtualHost", name: str) -> Exchange:
    """The exchange of that name, which is not the default one."""
    name = _stripped(name)
    _not_default(name)
    return _exchange(vhost, name)


def bind_exchange(
    vhost: "VirtualHost", destination: str, source: str, key: str, arguments: Arguments
) -> None:
    """Let one exchange lead to another."""
    _not_default(destination)
    start = exchange_named(vhost, source)
    target = _exchange(vhost, _stripped(destination))
    start.validate(arguments)
    start.bind(target, key, arguments)


def unbind_exchange(
    vhost: "VirtualHost", destination: str, source: str, key: str, arguments: Arguments
) -> None:
    """Take that back, if it was so."""
    _not_default(destination)
    _not_default(source)
    _unbind(
        vhost,
        vhost.exchanges.get(_stripped(source)),
        vhost.exchanges.get(_stripped(destination)),
        key,
        arguments,
    )


def declare_queue(
    vhost: "VirtualHost",
    name: str,
    owner: object,
    *,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: Arguments,
) -> Queue:
    """Make a queue, or see that the one there is is the same."""
    name = _stripped(name)
    wanted = arguments.get("x-queue-type", "classic")
    if not name:
        if wanted in ("quorum", "stream"):
            kind = f"rabbit_{wanted}_queue"
            raise Refusal(
                PRECONDITION_FAILED, f"Cannot declare a server-named queue for type {kind}"
            )
        name = f"amq.gen-{unique(16)}"
    else:
        _check_name("queue", name)  # also when it exists: server-named ones are not declared again
    durable = durable and not exclusive  # an exclusive queue does not outlive its connection
    known = vhost.queues.get(name)
    if known is not None:
        _check_same_queue(known, owner if exclusive else None, durable, auto_delete, arguments)
        return known
    return _new_queue(vhost, name, owner if exclusive else None, durable, auto_delete, arguments)


def queue_named(vhost: "VirtualHost", name: str, owner: object) -> Queue:
    """The queue of that name, if this connection may use it."""
    queue = vhost.queues.get(_stripped(name))
    if queue is None:
        raise Refusal(NOT_FOUND, f"no {in_vhost('queue', name, vhost.name)}")
    if queue.owner is not None and queue.owner is not owner:
        raise _locked(queue)
    return queue


def delete_queue(
    vhost: "VirtualHost", name: str, owner: object, *, if_unused: bool, if_empty: bool
) -> int:
    """Delete a queue, if there is one; how many messages waited in it."""
    if _stripped(name) not in vhost.queues:
        return 0
    queue = queue_named(vhost, name, owner)
    what = in_vhost("queue", queue.name, queue.vhost.name)
    if queue.kind == "quorum" and (if_unused or if_empty):
        flag = "if-unused" if if_unused else "if-empty"
        raise Refusal(
            NOT_IMPLEMENTED,
            f"cannot delete {what}. queue.delete operations with {flag} flag set are not "
            "supported by quorum queues",
        )
    if if_empty and queue.ready:
        raise Refusal(PRECONDITION_FAILED, f"{what} not empty")
    if if_unused and queue.consumers:
        raise Refusal(PRECONDITION_FAILED, f"{what} in use")
    return vhost.delete(queue)


def bind_queue(
    vhost: "VirtualHost", name: str, exchange: str, key: str, arguments: Arguments, owner: object
) -> None:
    """Let an exchange lead to a queue."""
    _not_reply_address(vhost, name)
    start = exchange_named(vhost, exchange)
    if _stripped(name) not in vhost.queues:
        raise Refusal(NOT_FOUND, f"no {in_vhost('queue', name, vhost.name)}")
    start.validate(arguments)
    start.bind(queue_named(vhost, name, owner), key, arguments)


def unbind_queue(
    vhost: "VirtualHost", name: str, exchange: str, key: str, arguments: Arguments, owner: object
) -> None:
    """Take that back, if it was so."""
    _not_reply_address(vhost, name)
    _not_default(exchange)
    start = vhost.exchanges.get(_stripped(exchange))
    known = _stripped(name) in vhost.queues
    target = queue_named(vhost, name, owner) if known and start is not None else None
    _unbind(vhost, start, target, key, arguments)


def check_reply_address(vhost: "VirtualHost", name: str) -> None:
    """See whether somebody hears a direct reply-to address."""
    if not vhost.replies.exists(name):
        raise Refusal(NOT_FOUND, f"no {in_vhost('queue', name, vhost.name)}")


def _new_queue(
    vhost: "VirtualHost",
    name: str,
    owner: object,
    durable: bool,
    auto_delete: bool,
    arguments: Arguments,
) -> Queue:
    what = in_vhost("queue", name, vhost.name)
    _check_text(arguments, "x-dead-letter-exchange", what)
    kind = queue_type(what, arguments)
    check_queue_arguments(vhost.profile.version, what, kind, arguments)
    if kind == "quorum":
        for wrong, is_wrong in (
            ("auto-delete", auto_delete),
            ("exclusive-owner", owner is not None),
            ("non-durable", not durable),
        ):
            if is_wrong:
                raise Refusal(PRECONDITION_FAILED, f"invalid property '{wrong}' for {what}")
    make = QuorumQueue if kind == "quorum" else ClassicQueue
    queue = make(vhost, name, arguments, durable=durable, auto_delete=auto_delete, owner=owner)
    vhost.queues[name] = queue
    return queue


def _check_same_queue(
    queue: Queue, owner: object, durable: bool, auto_delete: bool, arguments: Arguments
) -> None:
    if queue.owner is not owner:
        raise _locked(queue)
    what = in_vhost("queue", queue.name, queue.vhost.name)
    check_same(what, queue.durable, durable, "durable")
    check_same(what, queue.auto_delete, auto_delete, "auto_delete")
    profile = queue.vhost.profile
    known = queue.arguments
    if profile.fills_in_type:
        known, arguments = _DEFAULT_TYPE | known, _DEFAULT_TYPE | dict(arguments)
    check_same_arguments(what, known, arguments, queue_keys(profile.version, queue.kind))


def _exchange(vhost: "VirtualHost", name: str) -> Exchange:
    exchange = vhost.exchanges.get(name)
    if exchange is None:
        raise Refusal(NOT_FOUND, f"no {in_vhost('exchange', name, vhost.name)}")
    return exchange


def _unbind(
    vhost: "VirtualHost",
    start: Exchange | None,
    target: Queue | Exchange | None,
    key: str,
    arguments: Arguments,
) -> None:
    if start is not None and target is not None and start.unbind(target, key, arguments):
        vhost.unbound(start)


def _locked(queue: Queue) -> Refusal:
    what = in_vhost("queue", queue.name, queue.vhost.name)
    return Refusal(
        RESOURCE_LOCKED,
        f"cannot obtain exclusive access to locked {what}. It could be originally declared on "
        "another connection or the exclusive property value does not match that of the original "
        "declaration.",
    )


def _check_text(arguments: Arguments, key: str, what: str) -> None:
    given = field_named(key, arguments)
    if given is not None and given.type != "longstr":
        text = f"invalid type '{given.type}' for arg '{key}' in {what}"
        raise Refusal(PRECONDITION_FAILED, text)


def _not_default(name: str) -> None:
    if not name:
        raise Refusal(ACCESS_REFUSED, "operation not permitted on the default exchange")


def _not_reply_address(vhost: "VirtualHost", name: str) -> None:
    if name.startswith(PREFIX) and vhost.profile.version != "3.10":
        raise Refusal(ACCESS_REFUSED, "cannot bind or unbind to a volatile (direct reply-to) queue")


def _check_name(kind: str, name: str) -> None:
    if name.startswith(_RESERVED):
        raise Refusal(ACCESS_REFUSED, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def _stripped(name: str) -> str:
    return name.replace("\n", "").replace("\r", "")

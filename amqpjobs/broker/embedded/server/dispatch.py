"""Which method of AMQP is which call of the model's channel, and what answers it.

Publishes and acknowledgements do not come here: they are most of the traffic, and `served` reads
them by hand. Changes when AMQP's methods or the model's calls do.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from amqpjobs.broker.embedded.errors import NOT_IMPLEMENTED, Refusal
from amqpjobs.broker.embedded.model.channel import Channel
from amqpjobs.broker.embedded.refusals import CHANNEL_ERROR, COMMAND_INVALID

Values = Mapping[str, Any]
"""The fields of the answer that are not zero, false or empty."""

_NOTHING: Final[Values] = {}


def call(channel: Channel, method: str, fields: dict[str, Any]) -> tuple[str, Values] | None:
    """Carry out a method.

    Args:
        channel: the model's.
        method: its name.
        fields: its fields by name; changed.

    Returns:
        The name of the answer and its fields; None when the client wants no answer.

    Raises:
        Refusal: by the model, or for a method that does not belong here.
    """
    handler = _HANDLERS.get(method)
    if handler is None:
        raise Refusal(COMMAND_INVALID, "unimplemented method")
    nowait = fields.pop("nowait", False)
    values = handler(channel, **fields)
    answer = _ANSWERS.get(method, f"{method}-ok")
    return None if nowait or answer is None else (answer, values)


def _declare_exchange(channel: Channel, exchange: str, **fields: Any) -> Values:
    channel.declare_exchange(exchange, **fields)
    return _NOTHING


def _delete_exchange(channel: Channel, exchange: str, if_unused: bool) -> Values:
    channel.delete_exchange(exchange, if_unused=if_unused)
    return _NOTHING


def _bind_exchange(channel: Channel, **fields: Any) -> Values:
    channel.bind_exchange(**fields)
    return _NOTHING


def _unbind_exchange(channel: Channel, **fields: Any) -> Values:
    channel.unbind_exchange(**fields)
    return _NOTHING


def _declare_queue(channel: Channel, queue: str, **fields: Any) -> Values:
    name, messages, consumers = channel.declare_queue(queue, **fields)
    return {"queue": name, "message_count": messages, "consumer_count": consumers}


def _delete_queue(channel: Channel, queue: str, if_unused: bool, if_empty: bool) -> Values:
    return {"message_count": channel.delete_queue(queue, if_unused=if_unused, if_empty=if_empty)}


def _purge_queue(channel: Channel, queue: str) -> Values:
    return {"message_count": channel.purge_queue(queue)}


def _bind_queue(channel: Channel, **fields: Any) -> Values:
    channel.bind_queue(**fields)
    return _NOTHING


def _unbind_queue(channel: Channel, **fields: Any) -> Values:
    channel.unbind_queue(**fields)
    return _NOTHING


def _qos(channel: Channel, prefetch_size: int, prefetch_count: int, global_: bool) -> Values:
    if prefetch_size:
        raise Refusal(NOT_IMPLEMENTED, f"prefetch_size!=0 ({prefetch_size})")
    channel.qos(prefetch_count, global_)
    return _NOTHING


def _consume(channel: Channel, queue: str, consumer_tag: str, **fields: Any) -> Values:
    return {"consumer_tag": channel.consume(queue, consumer_tag, **fields)}


def _cancel(channel: Channel, consumer_tag: str) -> Values:
    channel.cancel(consumer_tag)
    return {"consumer_tag": consumer_tag}


def _acknowledge_cancel(channel: Channel, consumer_tag: str) -> Values:
    return _NOTHING


def _reject(channel: Channel, delivery_tag: int, requeue: bool) -> Values:
    channel.reject(delivery_tag, requeue)
    return _NOTHING


def _recover(channel: Channel, requeue: bool) -> Values:
    channel.recover(requeue)
    return _NOTHING


def _select_confirms(channel: Channel) -> Values:
    channel.select_confirms()
    return _NOTHING


def _select_transactions(channel: Channel) -> Values:
    channel.select_transactions()
    return _NOTHING


def _commit(channel: Channel) -> Values:
    channel.commit()
    return _NOTHING


def _roll_back(channel: Channel) -> Values:
    channel.roll_back()
    return _NOTHING


def _flow(channel: Channel, active: bool) -> Values:
    if not active:
        raise Refusal(NOT_IMPLEMENTED, "active=false")
    return {"active": True}


def _request_access(channel: Channel, **fields: Any) -> Values:
    return {"ticket": 1}  # AMQP 0-8's; some clients still ask


def _open_again(channel: Channel) -> Values:
    raise Refusal(CHANNEL_ERROR, "second 'channel.open' seen")


_HANDLERS: Final[dict[str, Callable[..., Values]]] = {
    "access.request": _request_access,
    "basic.cancel": _cancel,
    "basic.cancel-ok": _acknowledge_cancel,
    "basic.consume": _consume,
    "basic.qos": _qos,
    "basic.recover": _recover,
    "basic.recover-async": _recover,
    "basic.reject": _reject,
    "channel.flow": _flow,
    "channel.open": _open_again,
    "confirm.select": _select_confirms,
    "exchange.bind": _bind_exchange,
    "exchange.declare": _declare_exchange,
    "exchange.delete": _delete_exchange,
    "exchange.unbind": _unbind_exchange,
    "queue.bind": _bind_queue,
    "queue.declare": _declare_queue,
    "queue.delete": _delete_queue,
    "queue.purge": _purge_queue,
    "queue.unbind": _unbind_queue,
    "tx.commit": _commit,
    "tx.rollback": _roll_back,
    "tx.select": _select_transactions,
}

_ANSWERS: Final[dict[str, str | None]] = {
    "basic.cancel-ok": None,
    "basic.recover-async": None,
    "basic.reject": None,
}
"""Where the answer is not the method's name with ``-ok``: there is none."""

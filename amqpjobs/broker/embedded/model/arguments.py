"""What may be asked of a queue or a consumer: checked as RabbitMQ checks it, in its words.

Source: ``rabbit_amqqueue:check_declare_arguments`` and each queue type's ``capabilities``.
Arguments that no type knows are ignored, as RabbitMQ ignores them. Those that it knows and this
broker does not do are refused.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from amqpjobs.broker.embedded.errors import NOT_IMPLEMENTED, PRECONDITION_FAILED, Refusal

Arguments: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Any, Arguments], str | None]
"""Given the value and all arguments: what is wrong with it, as Erlang would write it."""

LONGEST_TTL = 315_360_000_000  # ten years, in milliseconds

# In the order in which RabbitMQ compares them when a queue is declared again.
_CLASSIC = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
)
_QUORUM = (
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
)
_STREAM = (
    "x-initial-cluster-size",
    "x-max-age",
    "x-max-length-bytes",
    "x-queue-leader-locator",
    "x-queue-type",
    "x-stream-max-segment-size-bytes",
)
_DELAYED_RETRY = ("x-delayed-retry-max", "x-delayed-retry-min", "x-delayed-retry-type")

_QUEUE_ARGUMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "3.10": {"classic": _CLASSIC, "quorum": _QUORUM, "stream": _STREAM},
    "4.3": {
        "classic": (*_CLASSIC, "x-queue-leader-locator"),
        "quorum": (
            *_QUORUM,
            "x-consumer-disconnected-timeout",
            "x-consumer-timeout",
            *_DELAYED_RETRY,
        ),
        "stream": (*_STREAM, "x-stream-filter-size-bytes"),
    },
}
_CONSUMER_ARGUMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "3.10": {
        "classic": ("x-cancel-on-ha-failover", "x-credit", "x-priority"),
        "quorum": ("x-credit", "x-priority"),
        "stream": ("x-credit", "x-stream-offset"),
    },
    "4.3": {
        "classic": ("x-priority",),
        "quorum": ("x-consumer-timeout", "x-priority"),
        "stream": ("x-stream-filter", "x-stream-match-unfiltered", "x-stream-offset"),
    },
}
_NOT_DONE = frozenset({*_DELAYED_RETRY, "x-credit"})


def queue_type(what: str, arguments: Arguments) -> str:
    """The type of queue that is asked for.

    Raises:
        Refusal: RabbitMQ has no such type, or this broker has not.
    """
    wanted = arguments.get("x-queue-type", "classic")
    wrong: str | None = None
    if not isinstance(wanted, str):
        wrong = f"{{unacceptable_type,{field_type(wanted)}}}"
    elif wanted not in ("classic", "quorum", "stream"):
        wrong = f"\"unsupported queue type '{wanted}'\""
    if wrong is not None:
        raise _invalid("x-queue-type", what, wrong)
    if wanted == "stream":
        raise Refusal(NOT_IMPLEMENTED, "the embedded broker has no streams: use RabbitMQ for them")
    return str(wanted)


def check_queue_arguments(version: str, what: str, kind: str, arguments: Arguments) -> None:
    """Check the arguments of `queue.declare`.

    Raises:
        Refusal: RabbitMQ refuses them, or this broker does not do what they ask for.
    """
    known = _QUEUE_ARGUMENTS[version]
    _check(_QUEUE_CHECKS, known, what, kind, arguments)
    if kind == "classic" and (wanted := arguments.get("x-queue-version")) is not None:
        versions = (1, 2) if version == "3.10" else (2,)
        if (wrong := _not_negative(wanted, arguments)) is not None:
            raise _invalid("x-queue-version", what, wrong)
        if wanted not in versions:
            raise _invalid("x-queue-version", what, f"\"unsupported queue version '{wanted}'\"")


def check_consumer_arguments(version: str, what: str, kind: str, arguments: Arguments) -> None:
    """Check the arguments of `basic.consume`.

    Raises:
        Refusal: RabbitMQ refuses them, or this broker does not do what they ask for.
    """
    _check(_CONSUMER_CHECKS, _CONSUMER_ARGUMENTS[version], what, kind, arguments)


def check_same(what: str, current: Any, received: Any, key: str) -> None:
    """Check one property of what exists against what is declared again.

    Raises:
        Refusal: they differ.
    """
    if current != received:
        raise _differs(what, key, f"'{_erlang(received)}'", f"'{_erlang(current)}'")


def check_same_arguments(
    what: str, current: Arguments, received: Arguments, keys: Iterable[str]
) -> None:
    """Check the arguments of what exists against those it is declared with again.

    Raises:
        Refusal: one of those keys differs.
    """
    for key in keys:
        if (key in current) == (key in received):
            old, new = current.get(key), received.get(key)
            if old != new or isinstance(old, bool) != isinstance(new, bool):
                raise _differs(what, key, _quoted(new), _quoted(old))
        elif not (key == "x-queue-type" and (current | received)[key] == "classic"):  # type: ignore[operator]
            raise _differs(what, key, _described(received, key), _described(current, key))


def queue_keys(version: str, kind: str) -> tuple[str, ...]:
    """The arguments in which two declarations of a queue have to agree."""
    return _QUEUE_ARGUMENTS[version][kind]


def field_type(value: Any) -> str:
    """How RabbitMQ calls the type of a value in a field table."""
    match value:
        case None:
            return "void"
        case bool():
            return "bool"
        case int():
            return "signedint" if -0x80000000 <= value <= 0x7FFFFFFF else "long"
        case float():
            return "double"
        case datetime():
            return "timestamp"
        case Mapping():
            return "table"
        case list() | tuple():
            return "array"
        case bytes():
            return "binary"
        case _:
            return "longstr"


def _check(
    checks: Mapping[str, Check],
    known: Mapping[str, tuple[str, ...]],
    what: str,
    kind: str,
    arguments: Arguments,
) -> None:
    for key, check in checks.items():
        if key in arguments and key in known[kind]:
            wrong = check(arguments[key], arguments)
            if wrong is not None:
                raise _invalid(key, what, wrong)
    elsewhere = {key for keys in known.values() for key in keys}
    for key in arguments:
        if key in known[kind]:
            if key in _NOT_DONE:
                raise Refusal(NOT_IMPLEMENTED, f"the embedded broker does not do '{key}'")
        elif key in elsewhere:
            raise Refusal(
                PRECONDITION_FAILED,
                f"invalid arg '{key}' for {what} of queue type rabbit_{kind}_queue",
            )


def _invalid(key: str, what: str, wrong: str) -> Refusal:
    return Refusal(PRECONDITION_FAILED, f"invalid arg '{key}' for {what}: {wrong}")


def _differs(what: str, key: str, received: str, current: str) -> Refusal:
    return Refusal(
        PRECONDITION_FAILED,
        f"inequivalent arg '{key}' for {what}: received {received} but current is {current}",
    )


def _described(arguments: Arguments, key: str) -> str:
    if key not in arguments:
        return "none"
    value = arguments[key]
    return f"the value '{_erlang(value)}' of type '{field_type(value)}'"


def _quoted(value: Any) -> str:
    return "none" if value is None else f"'{_erlang(value)}'"


def _erlang(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _integer(value: Any, _: Arguments) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return None
    return f'"expected integer, got {field_type(value)}"'


def _not_negative(value: Any, arguments: Arguments) -> str | None:
    return _integer(value, arguments) or (f"{{value_negative,{value}}}" if value < 0 else None)


def _lifetime(value: Any, arguments: Arguments) -> str | None:
    if (wrong := _not_negative(value, arguments)) is not None:
        return wrong
    return f"{{value_too_large,{value}}}" if value > LONGEST_TTL else None


def _expiry(value: Any, arguments: Arguments) -> str | None:
    return _integer(value, arguments) or (
        f"{{value_zero,{value}}}" if value == 0 else _lifetime(value, arguments)
    )


def _priority(value: Any, arguments: Arguments) -> str | None:
    if (wrong := _not_negative(value, arguments)) is not None:
        return wrong
    return f"{{max_value_exceeded,{value}}}" if value > 255 else None


def _positive(value: Any, arguments: Arguments) -> str | None:
    if (wrong := _not_negative(value, arguments)) is not None:
        return wrong
    return f"{{value_zero,{value}}}" if value == 0 else None


def _text(value: Any, _: Arguments) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{field_type(value)}}}"


def _truth(value: Any, _: Arguments) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{field_type(value)}}}"


def _letter_key(value: Any, arguments: Arguments) -> str | None:
    if (wrong := _text(value, arguments)) is not None:
        return wrong
    return None if "x-dead-letter-exchange" in arguments else "routing_key_but_no_dlx_defined"


def _one_of(wrong: str, *choices: str) -> Check:
    def check(value: Any, arguments: Arguments) -> str | None:
        return _text(value, arguments) or (None if value in choices else wrong)

    return check


_QUEUE_CHECKS: dict[str, Check] = {
    "x-expires": _expiry,
    "x-message-ttl": _lifetime,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _letter_key,
    "x-dead-letter-strategy": _one_of("invalid_dlx_strategy", "at-most-once", "at-least-once"),
    "x-max-length": _not_negative,
    "x-max-length-bytes": _not_negative,
    "x-max-in-memory-length": _not_negative,
    "x-max-in-memory-bytes": _not_negative,
    "x-max-priority": _priority,
    "x-overflow": _one_of("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx"),
    "x-single-active-consumer": _truth,
    "x-consumer-timeout": _not_negative,
    "x-consumer-disconnected-timeout": _not_negative,
    "x-quorum-initial-group-size": _positive,
    "x-queue-leader-locator": _one_of(
        "invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders"
    ),
}
_CONSUMER_CHECKS: dict[str, Check] = {
    "x-priority": _integer,
    "x-cancel-on-ha-failover": _truth,
    "x-consumer-timeout": _not_negative,
}

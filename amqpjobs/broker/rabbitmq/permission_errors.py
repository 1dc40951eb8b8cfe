"""Maps RabbitMQ's messages about missing permissions to errors that say how to fix them.

Changes when RabbitMQ's messages do, or when the fix does.
"""

import re
from collections.abc import Callable

from amqpjobs.errors import NotPermitted, TopologyMismatch

SHOWN = "`amqpjobs topology users` shows what each user must be allowed"

_WORDS = re.compile(
    r"(?:(?P<permission>configure|write|read) )?access to (?P<kind>queue|exchange) '(?P<name>.*)' "
    r"in vhost '(?P<vhost>.*)' refused for user '(?P<user>.*)'",
    re.DOTALL,
)
"""Of rabbit_access_control.erl; 3.10 does not say which permission."""


def refusal_of(error: object, needs: str | Callable[[str], str]) -> NotPermitted:
    """The error for what RabbitMQ refused with 403.

    Args:
        error: its words, or an exception with them.
        needs: the permission that was asked for, where it does not say so itself; or what tells
            that from the name of the queue or the exchange.
    """
    found = _WORDS.search(str(error))
    if found is None:
        return NotPermitted(
            f"RabbitMQ does not permit it: {error}. {SHOWN}", permission="", resource=""
        )
    name = found["name"]
    permission = found["permission"] or (needs if isinstance(needs, str) else needs(name))
    return NotPermitted(
        f"{_lacking(found, permission)}. Add {name!r} to that pattern of the user, with "
        f"`rabbitmqctl set_permissions`; {SHOWN}",
        permission=permission,
        resource=_resource(found),
    )


def in_exclusive_use(error: object, queue: str) -> TopologyMismatch | None:
    """The error for a queue that another consumer has for itself, which RabbitMQ refuses with 403,
    too; None for a missing permission. It passes when that consumer goes."""
    if not str(error).endswith("in exclusive use"):
        return None
    entity = f"queue {queue!r}"
    return TopologyMismatch(
        f"another program consumes the {entity} exclusively: stop it, or let it consume without "
        "`exclusive`. This consumer starts when that one has gone",
        entity=entity,
        difference="in exclusive use",
    )


def not_to_be_looked_at(error: object) -> NotPermitted:
    """The error for a passive declaration that was refused: up to 4.3.0 there is no such thing."""
    found = _WORDS.search(str(error))
    if found is None:
        return refusal_of(error, "")
    return NotPermitted(
        f"{_lacking(found, 'configure, write or read')}: RabbitMQ wants one of them, whichever, "
        f"to say whether it is there; {SHOWN}",
        permission="configure, write or read",
        resource=_resource(found),
    )


def _lacking(found: re.Match[str], permission: str) -> str:
    return (
        f"user {found['user']!r} lacks the {permission} permission for {_resource(found)} in "
        f"virtual host {found['vhost']!r}"
    )


def _resource(found: re.Match[str]) -> str:
    return f"{found['kind']} {found['name']!r}"


def is_refusal(words: str) -> bool:
    """Whether a channel was closed over a missing permission."""
    return words.startswith("ACCESS_REFUSED") or _WORDS.search(words) is not None

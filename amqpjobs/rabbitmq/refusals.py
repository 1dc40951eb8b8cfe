"""RabbitMQ's words for a missing permission, as ours, which name the mend.

Changes when RabbitMQ's words do, or when the mend does.
"""

import re
from typing import Literal, TypeAlias

from amqpjobs.errors import NotPermitted

Permission: TypeAlias = Literal["configure", "write", "read"]

_WORDS = re.compile(
    r"(?:(?P<permission>configure|write|read) )?access to (?P<kind>queue|exchange) '(?P<name>.*)' "
    r"in vhost '(?P<vhost>.*)' refused for user '(?P<user>.*)'",
    re.DOTALL,
)
"""Of rabbit_access_control.erl; 3.10 does not say which permission."""


def refusal_of(error: object, needs: Permission) -> NotPermitted:
    """The error for what RabbitMQ refused with 403.

    Args:
        error: its words, or an exception with them.
        needs: the permission that was asked for, where it does not say so itself.
    """
    found = _WORDS.search(str(error))
    if found is None:
        return NotPermitted(
            f"RabbitMQ does not permit it: {error}. `amqpjobs topology users` shows what each user "
            "must be allowed",
            permission=needs,
            resource="",
        )
    permission, name = found["permission"] or needs, found["name"]
    resource = f"{found['kind']} {name!r}"
    return NotPermitted(
        f"user {found['user']!r} has no {permission} permission for {resource} in virtual host "
        f"{found['vhost']!r}. Add {name!r} to the user's {permission} pattern with `rabbitmqctl "
        "set_permissions`; `amqpjobs topology users` shows what each user must be allowed",
        permission=permission,
        resource=resource,
    )


def is_refusal(words: str) -> bool:
    """Whether a channel was closed over a missing permission."""
    return words.startswith("ACCESS_REFUSED") or _WORDS.search(words) is not None

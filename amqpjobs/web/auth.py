"""Access to the API: by token; without one, only from this machine.

Changes when there is another way to be let in.
"""

import hmac
import ipaddress
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from amqpjobs.settings import Settings
from amqpjobs.web.problems import Problem

bearer = HTTPBearer(auto_error=False, description="AMQPJOBS_WEB_TOKEN, where it is set.")

Given = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class Guard:
    """A dependency of every route but those of health and of hooks.

    With a token it is asked for. Without one the server listens on loopback only, and what has to
    be kept out is a page in a browser of this machine that has given its own name our address (DNS
    rebinding): it says its own name in ``Host``.

    Args:
        settings: with ``web_token``, or none.
    """

    def __init__(self, settings: Settings) -> None:
        token = settings.web_token
        self._token = None if token is None else token.get_secret_value().encode()

    def __call__(self, request: Request, given: Given) -> None:
        """Let a request pass.

        Raises:
            Problem: 401 without the token, 403 under a name that is not this machine's.
        """
        if self._token is not None:
            sent = b"" if given is None else given.credentials.encode()
            if not hmac.compare_digest(sent, self._token):
                raise Problem(
                    401,
                    "unauthorized",
                    "send the header Authorization: Bearer with the token of this server",
                    {"WWW-Authenticate": "Bearer"},
                )
        elif not is_loopback(host_of(request.headers.get("host", ""))):
            raise Problem(
                403,
                "host",
                "without AMQPJOBS_WEB_TOKEN this server answers to localhost and 127.0.0.1 only",
            )


def host_of(value: str) -> str:
    """The name or address in a ``Host`` header, without the port."""
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether this name or address means the machine itself, whoever resolves it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Reaching a host by its name: names are resolved in a thread of their own, and every address is
tried in turn. Changes when addresses are found or chosen otherwise.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from amqpjobs.broker.rabbitmq.own_thread import in_own_thread

P = TypeVar("P", bound=asyncio.Protocol)


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host, as text, in the order in which the machine prefers them.

    Raises:
        OSError: the name has no address, or no name server answers.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass  # a name
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await in_own_thread(ask, f"amqpjobs resolving {host}")
    return list(dict.fromkeys(_text(address) for *_, address in found))


async def connect(
    make: Callable[[], P], host: str, port: int, context: ssl.SSLContext | None, **options: Any
) -> tuple[asyncio.Transport, P]:
    """Connect to the first address that answers. With TLS the certificate is checked for the name.

    Args:
        make: makes the protocol, anew for each address.
        host: a name or an address.
        port: the port.
        context: for TLS; None for none.
        options: more of the event loop's `create_connection`.

    Raises:
        OSError: none answers; the error of the first one.
    """
    loop = asyncio.get_running_loop()
    if context is not None and options.get("server_hostname") is None:
        options["server_hostname"] = host
    problem: OSError | None = None
    for address in await addresses_of(host, port):
        try:
            return await loop.create_connection(make, address, port, ssl=context, **options)
        except OSError as error:
            problem = problem or error
    raise problem or OSError(f"{host} has no address")


def _text(address: tuple[Any, ...]) -> str:
    """The address of a socket's, with its scope if it is a link's."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope and "%" not in str(address[0]) else str(address[0])

"""Serves two ASGI applications on one port: this API, and the user's own.

Changes when the border between them does.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from amqpjobs.web.api import PATHS


class Beside:
    """Sends what begins with one of `PATHS` to the API, and everything else to the other: pages,
    websockets, and the lifespan, since the API's is the server's own.

    Args:
        api: this API.
        other: the user's application.
    """

    def __init__(self, api: ASGIApp, other: ASGIApp) -> None:
        self._api = api
        self._other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        ours = scope["type"] == "http" and scope["path"].split("/", 2)[1:2] in _OURS
        await (self._api if ours else self._other)(scope, receive, send)


_OURS = [[path] for path in PATHS]

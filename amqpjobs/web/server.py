"""Serving by uvicorn: where to listen, and how to stop within the budget.

Changes when starting or stopping does.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from amqpjobs.broker.rabbitmq.background import first_error, lasting
from amqpjobs.errors import AmqpJobsError, ConfigurationError
from amqpjobs.settings import Settings
from amqpjobs.telemetry.health.heartbeat import Liveness, notify
from amqpjobs.web.access_log import AccessLog
from amqpjobs.web.api import api_of
from amqpjobs.web.auth import is_loopback
from amqpjobs.web.mount import Beside
from amqpjobs.web.tier import Tier

log = logging.getLogger("amqpjobs.web")

BACKLOG = 2048

KEEP_ALIVE = 5
"""Seconds that an idle connection is kept open."""


class Listening:
    """Sockets that are bound, and listen as soon as they are served.

    Args:
        settings: with ``web_host`` and ``web_port``.

    Attributes:
        host: the first address, as it stands in a URL.
        port: the port, if need be one that was free.

    Raises:
        ConfigurationError: the place is taken or not ours; or it is not this machine's alone, and
            there is no token.
    """

    def __init__(self, settings: Settings) -> None:
        host, port = settings.web_host, settings.web_port
        try:
            found = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise ConfigurationError(f"--host {host!r} is no address here: {error}") from error
        open_to_others = [str(place[4][0]) for place in found if not is_loopback(str(place[4][0]))]
        if open_to_others and settings.web_token is None:
            raise ConfigurationError(
                f"--host {host!r} is open to other machines ({open_to_others[0]}): set "
                "AMQPJOBS_WEB_TOKEN, which callers then send as Authorization: Bearer; make one "
                "with: openssl rand -hex 32"
            )
        self.sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in found:
                self._bind(family, kind, protocol, address, port)
        except OSError as error:
            self.close()
            raise ConfigurationError(
                f"cannot listen at {host} port {port}: {error.strerror}; choose another --port"
            ) from error
        # Asked for once, since whoever serves them closes them.
        name = str(self.sockets[0].getsockname()[0])
        self.host = f"[{name}]" if ":" in name else name
        self.port = int(self.sockets[0].getsockname()[1])

    def _bind(
        self, family: int, kind: int, protocol: int, address: tuple[object, ...], port: int
    ) -> None:
        made = socket.socket(family, kind, protocol)
        self.sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own in the list.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if not port and len(self.sockets) > 1:
            # A free one was chosen for the first address; it is one server.
            address = (address[0], self.sockets[0].getsockname()[1], *address[2:])
        made.bind(address)

    def close(self) -> None:
        """Give the place up."""
        for each in self.sockets:
            each.close()


class _Server(uvicorn.Server):
    """uvicorn's, with our signals: it would raise the one that it has caught once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """A web tier from start to stop.

    Args:
        tier: what it serves.
        listening: where.
        other: the user's own ASGI application, beside the API.
    """

    def __init__(self, tier: Tier, listening: Listening, other: ASGIApp | None = None) -> None:
        self._tier = tier
        self._listening = listening
        self._budget = tier.settings.shutdown_timeout
        api = api_of(tier)
        config = uvicorn.Config(
            AccessLog(api if other is None else Beside(api, other)),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # The tier's own is around the server; this one is the user's.
            lifespan="off" if other is None else "auto",
            loop="none",
            timeout_keep_alive=KEEP_ALIVE,
            backlog=BACKLOG,
        )
        self._server = _Server(config)
        self._stops = 0
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Serve until `stop` is called, then finish what runs and return.

        Raises:
            BrokerUnavailable: RabbitMQ refused us for good.
            AmqpJobsError: the user's application did not start; the log says why.
        """
        try:
            with first_error():
                await self._run()
        finally:
            self._listening.close()

    async def _run(self) -> None:
        async with self._tier.lifespan(), asyncio.TaskGroup() as group:
            liveness = Liveness(self._tier.settings.heartbeat_file, lambda: self._tier.condition)
            tasks = [
                group.create_task(lasting(liveness.run, "amqpjobs liveness")),
                group.create_task(lasting(self._announce, "amqpjobs announcement", returns=True)),
            ]
            try:
                await self._serve()
            finally:
                for task in tasks:
                    task.cancel()

    def stop(self) -> None:
        """Stop within the budget; called again, at once."""
        self._stops += 1
        if self._stops > 1:
            self._cut_off()
            return
        margin = min(1.0, self._budget / 8)
        self._tier.stopping.set()
        notify("STOPPING=1")
        log.info("stopping", extra={"budget_s": self._budget})
        # Not by setting its flag: sse-starlette listens here, for the streams of others.
        self._server.handle_exit(signal.SIGTERM, None)
        self._loop.call_later(self._budget - margin, self._cut_off)

    async def _serve(self) -> None:
        try:
            await self._server.serve(self._listening.sockets)
        except SystemExit as error:
            raise AmqpJobsError("the application did not start; the log says why") from error
        log.info("stopped")

    async def _announce(self) -> None:
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if self._stops:
            return
        notify("READY=1")
        log.info(
            "web tier is ready",
            extra={
                "url": f"http://{self._listening.host}:{self._listening.port}",
                "token": self._tier.settings.web_token is not None,
            },
        )

    def _cut_off(self) -> None:
        """Cancel the requests that still run, and drop connections that do not read."""
        state = self._server.server_state
        if state.tasks:
            log.warning("requests are cut off", extra={"count": len(state.tasks)})
        for task in list(state.tasks):
            task.cancel()
        # In a moment: what was cancelled still writes its answer.
        self._loop.call_later(min(0.2, self._budget / 16), self._drop)

    def _drop(self) -> None:
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

"""A TCP proxy between workers and RabbitMQ, as a sidecar or a port-forward is one.

A worker that was frozen behind one learns later, and otherwise, that RabbitMQ has given it up.
Changes when proxies do something else to connections.
"""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from amqpjobs.broker_url import Node, parse_broker_url

CHUNK = 65536
"""Bytes that are passed on at once."""


class Proxy:
    """Listens on a free port of the loopback, in a thread of its own, and passes bytes on. When one
    side closes or resets its connection, it closes both.

    Args:
        url: of RabbitMQ; of several nodes the first one is proxied. With TLS nothing is proxied,
            since the certificate is for another name.

    Attributes:
        url: of RabbitMQ, through here, inside of the block.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._given = parse_broker_url(url)
        self.used = not self._given.encrypted
        self._listening: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="amqpjobs chaos proxy", daemon=True)

    def __enter__(self) -> Self:
        if self.used:
            self._thread.start()
            self.url = self._given.at(Node("127.0.0.1", self._listening.result()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.used:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._listening.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._listening.set_result(server.sockets[0].getsockname()[1])
        await self._over.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node = self._given.nodes[0]
        try:
            theirs, ours = await asyncio.open_connection(node.host, node.port)
        except OSError:
            writer.transport.abort()
            return
        pumps = [
            asyncio.ensure_future(_pump(reader, ours)),
            asyncio.ensure_future(_pump(theirs, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.close()
            ours.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        return

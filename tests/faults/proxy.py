"""A TCP proxy that understands AMQP 0-9-1 framing, and does to a connection what networks do.

It reads whole frames and passes them on, so that a fault can be placed exactly: between two frames,
within one, at the nth of a kind. ``up`` is from the client to the broker, ``down`` the way back.
Faults are set on the proxy and hold for all connections, those to come included, until `heal`.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

Direction = Literal["up", "down"]

PROTOCOL_HEADER: Final = 8
METHOD: Final = 1
HEARTBEAT: Final = 8
NAMES: Final = {
    (20, 40): "channel.close",
    (50, 10): "queue.declare",
    (60, 20): "basic.consume",
    (60, 21): "basic.consume-ok",
    (60, 30): "basic.cancel",
    (60, 40): "basic.publish",
    (60, 60): "basic.deliver",
    (60, 80): "basic.ack",
    (60, 120): "basic.nack",
}

ACK: Final = "basic.ack"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it stands on the wire."""

    kind: int
    channel: int
    data: bytes

    @property
    def name(self) -> str:
        """Its method, or what kind of frame it is."""
        if self.kind == METHOD:
            method: tuple[int, int] = struct.unpack_from(">HH", self.data, 7)
            return NAMES.get(method, "{}.{}".format(*method))
        return {2: "header", 3: "body", HEARTBEAT: "heartbeat"}.get(self.kind, "?")


def acknowledgement(channel: int, tag: int) -> bytes:
    """A `basic.ack` of one tag, to be injected."""
    return struct.pack(">BHIHHQBB", METHOD, channel, 13, 60, 80, tag, 0, 0xCE)


@dataclass
class Trouble:
    """What is wrong with one direction; as it is made, nothing.

    Attributes:
        stalled: take no more bytes, so that the sender's buffers fill up.
        discard: take all bytes, and pass none on.
        chop: pass every byte on by itself.
        rate: bytes a second; 0 for as many as there are.
        keep: which frames are passed on; None for all.
        delay: seconds that a frame waits, and all behind it.
        cut_at: how many frames are passed on before the connection is cut; None for no cut.
        cut_name: which frames are counted for that; all, if empty.
        cut_inside: cut in the middle of that frame, instead of before it.
    """

    stalled: bool = False
    discard: bool = False
    chop: bool = False
    rate: int = 0
    keep: Callable[[Frame], bool] | None = None
    delay: Callable[[Frame], float] | None = None
    cut_at: int | None = None
    cut_name: str = ""
    cut_inside: bool = False


class Cut(Exception):
    """The connection is to be reset now."""


class Ended(Exception):
    """One side has closed or reset its connection, and the other one is to be closed."""


class Proxied:
    """One connection through the proxy: two sockets and two pumps."""

    def __init__(
        self,
        proxy: "Proxy",
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._readers = {"up": client[0], "down": broker[0]}
        self._writers = {"up": broker[1], "down": client[1]}
        self.consumers: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Proxied: consumes {self.consumers}>"

    async def run(self) -> None:
        """Pump until both directions have ended, or the connection is cut."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("up"))
                group.create_task(self._pump("down"))
        except* Ended:
            self.close()
        except* (OSError, Cut, asyncio.IncompleteReadError):
            self.reset()
        finally:
            self.close()

    def close(self) -> None:
        """Close both sockets."""
        for writer in self._writers.values():
            writer.close()

    def reset(self) -> None:
        """RST to both sides."""
        for writer in self._writers.values():
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    def half_close(self, direction: Direction) -> None:
        """FIN in one direction; the other one goes on."""
        writer = self._writers[direction]
        if not writer.is_closing():
            writer.write_eof()

    def inject(self, direction: Direction, frames: bytes) -> None:
        """Write frames that the other side never sent; pumps write whole frames, so it fits."""
        self._writers[direction].write(frames)

    async def _pump(self, direction: Direction) -> None:
        reader, writer, proxy = self._readers[direction], self._writers[direction], self._proxy
        if direction == "up":
            writer.write(await reader.readexactly(PROTOCOL_HEADER))
        while True:
            await proxy.until(lambda: not proxy.trouble[direction].stalled)
            try:
                head = await reader.readexactly(7)
            except (asyncio.IncompleteReadError, ConnectionResetError) as end:
                if proxy.closes_both:
                    raise Ended from end
                if isinstance(end, ConnectionResetError) or end.partial:
                    raise
                if not writer.is_closing():
                    writer.write_eof()
                return
            kind, channel, size = struct.unpack(">BHI", head)
            frame = Frame(kind, channel, head + await reader.readexactly(size + 1))
            # Stalled while this frame was on its way: it is not through yet.
            await proxy.until(lambda: not proxy.trouble[direction].stalled)
            await self._pass_on(direction, frame, writer)

    async def _pass_on(
        self, direction: Direction, frame: Frame, writer: asyncio.StreamWriter
    ) -> None:
        trouble, name = self._proxy.trouble[direction], frame.name
        self._proxy.frames[direction][name] += 1
        if direction == "up" and name == "basic.consume":
            length = frame.data[13]
            self.consumers[frame.data[14 : 14 + length].decode()] = frame.channel
        if trouble.cut_at is not None and (not trouble.cut_name or name == trouble.cut_name):
            if trouble.cut_at == 0:
                if trouble.cut_inside:
                    writer.write(frame.data[: len(frame.data) // 2])
                    await writer.drain()
                trouble.cut_at = None
                raise Cut
            trouble.cut_at -= 1
        if trouble.discard or (trouble.keep is not None and not trouble.keep(frame)):
            self._proxy.dropped[direction][name] += 1
            return
        if trouble.delay is not None and (seconds := trouble.delay(frame)):
            await asyncio.sleep(seconds)
        await self._write(trouble, frame.data, writer)

    async def _write(self, trouble: Trouble, data: bytes, writer: asyncio.StreamWriter) -> None:
        step = 1 if trouble.chop else max(1, trouble.rate // 20) if trouble.rate else len(data)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            writer.write(piece)
            await writer.drain()
            # A chopped byte leaves with its own packet: the socket has TCP_NODELAY.
            await asyncio.sleep(len(piece) / trouble.rate if trouble.rate else 0)


@dataclass
class Proxy:
    """Listens on a free port of the loopback, and connects each client to the broker.

    Attributes:
        target: the broker's URL.
        trouble: what is wrong, by direction.
        frames: how many frames of each name were seen, by direction.
        dropped: how many of them were not passed on.
        closes_both: when one side closes or resets its connection, close both, as a sidecar or a
            port-forward does. Else an end is passed on as the end of one direction, and a reset as
            a reset.
    """

    target: str
    closes_both: bool = False
    trouble: dict[str, Trouble] = field(default_factory=lambda: _both(Trouble))
    frames: dict[str, Counter[str]] = field(default_factory=lambda: _both(Counter))
    dropped: dict[str, Counter[str]] = field(default_factory=lambda: _both(Counter))
    connections: list[Proxied] = field(default_factory=list)
    accepted: int = 0
    refusing: bool = False

    async def __aenter__(self) -> Self:
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    @property
    def url(self) -> str:
        """The broker's URL, through here."""
        parts = urlsplit(self.target)
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()

    def set(self, direction: Direction, **what: object) -> None:
        """Make trouble in one direction, from the next frame on."""
        self.trouble[direction] = Trouble(**what)  # type: ignore[arg-type]
        self._wake()

    def heal(self) -> None:
        """End all trouble. What was discarded stays lost; what was stalled goes on."""
        self.trouble.update(_both(Trouble))
        self._wake()

    def reset_all(self) -> None:
        """Reset every connection."""
        for connection in tuple(self.connections):
            connection.reset()

    def half_close_all(self, direction: Direction) -> None:
        """Half-close every connection."""
        for connection in tuple(self.connections):
            connection.half_close(direction)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the trouble has changed so that the condition holds."""
        while not condition():
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        parts = urlsplit(self.target)
        try:
            broker = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            writer.transport.abort()
            return
        connection = Proxied(self, (reader, writer), broker)
        self.connections.append(connection)
        task = asyncio.ensure_future(connection.run())
        self._tasks.add(task)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._tasks.discard(task)
            self.connections.remove(connection)


def _both(make: Callable[[], object]) -> dict[str, object]:  # type: ignore[misc]
    return {"up": make(), "down": make()}


Action = Callable[[], Awaitable[None]]

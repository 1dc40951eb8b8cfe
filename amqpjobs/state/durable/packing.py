"""Packs the items of a map into messages. Changes when a chunk has another format."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.job import Job, body_for, definition_of, template_of
from amqpjobs.state.durable.children import prepare, with_deadline
from amqpjobs.state.durable.chunk_rows import NewChunk
from amqpjobs.state.durable.feed import Feed

if TYPE_CHECKING:
    from amqpjobs.jobs.message.family import Part
    from amqpjobs.state.durable.run import DurableRun

LARGEST = 1024 * 1024
"""Bytes of the items of a chunk, unless there is one item only."""


class Packing:
    """Makes the messages of a map.

    Args:
        run: of its job.
        name: of the map.
        job: for each item.
        part: what they are: chunks have a list of items, others one.

    Raises:
        ConfigurationError: a job that cannot be mapped.
    """

    def __init__(self, run: "DurableRun", name: str, job: Any, part: "Part") -> None:
        self._run = run
        self._name = name
        self._job: Job[..., Any, Any] = job
        self._part: Part = part
        self._left: bytes | None = None
        if template_of(job, b"null").options.callbacks is not None:
            raise ConfigurationError(
                f"ctx.map({name!r}): its job has on_success= or on_failure=, which a chunk would "
                "enqueue once for all of its items: leave them out and use the results of ctx.map"
            )

    async def pack(
        self, source: AsyncIterator[Any], feed: Feed, size: int, most: int
    ) -> tuple[list[NewChunk], bool]:
        """The next chunks.

        Args:
            source: of items that were not sent.
            feed: how many were.
            size: items in a chunk.
            most: chunks.

        Returns:
            They, and whether there are no more items.

        Raises:
            InvalidArguments, MessageTooLarge: an item cannot be sent.
            Exception: what reading the items raises.
        """
        new: list[NewChunk] = []
        first = feed.sent
        while len(new) < most:
            bodies = await self._bodies(source, size)
            if not bodies:
                return new, True
            n = feed.chunks + len(new)
            new.append(await self._chunk(n, first, bodies))
            first += len(bodies)
        return new, False

    async def _bodies(self, source: AsyncIterator[Any], size: int) -> list[bytes]:
        bodies: list[bytes] = []
        large = 0
        while len(bodies) < size:
            body, self._left = self._left, None
            if body is None:
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    break
                body = self._body(item)
            if bodies and large + len(body) > LARGEST:
                self._left = body
                break
            bodies.append(body)
            large += len(body)
        return bodies

    def _body(self, item: Any) -> bytes:
        if self._part == "reduce":
            body: bytes = item
            return body
        if definition_of(self._job).body is not None:
            return body_for(self._job, item)
        return self._job.message(item).body

    async def _chunk(self, n: int, first: int, bodies: list[bytes]) -> NewChunk:
        body = b"[" + b",".join(bodies) + b"]" if self._part == "chunk" else bodies[0]
        run, template = self._run, template_of(self._job, body)
        message = await prepare(run.shared.client, run.owner, self._name, self._part, template, n)
        message = with_deadline(message, run.context.deadline)
        return NewChunk(n, first, len(bodies), message)

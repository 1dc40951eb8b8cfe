"""Replies to requests: the caller gets the result or error before the delivery is acked.

If a worker dies in between, the reply is sent twice, never lost; the caller takes the first.
Changes when a reply, or what its fate means for the job, does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import (
    ConfigurationError,
    DecodeError,
    InvalidResult,
    PublishError,
    Unroutable,
)
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.message.compression import Compression, compressed
from amqpjobs.jobs.message.envelope import FAILED, Ending, Envelope
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.headers import accepts
from amqpjobs.jobs.message.properties import ERROR_REPLY, JSON, TRANSIENT, Properties
from amqpjobs.jobs.message.reply import error_body
from amqpjobs.jobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Outcome,
    Parked,
    Rejected,
    Skipped,
    Snoozed,
)
from amqpjobs.jobs.results import dump_result
from amqpjobs.jobs.run_context import context_of_nobody
from amqpjobs.telemetry.traces.propagation import reply_trace
from amqpjobs.worker.enveloped import ending_of
from amqpjobs.worker.failures import exception_name, words_of
from amqpjobs.worker.replacing import CONFIRM_TIMEOUT
from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

DIRECT = "amq.rabbitmq.reply-to."
"""Addresses of RabbitMQ's direct reply-to. Up to 4.1 a mandatory reply to one is returned although
it was delivered, from 4.2 never: whether it was, nobody can know
(https://www.rabbitmq.com/docs/direct-reply-to)."""

SWEEP = 0.5
"""Seconds between two looks for answers whose confirm takes too long."""

OURS = "amqpjobs."
"""What amqpjobs itself has on the broker begins so."""

Reject = Callable[[Run, str, object], Rejected]


class Answering:
    """Sends answers.

    Args:
        publication: to publish them on; not on the consuming connection, which an alarm must not
            stop.
        rejected: makes the outcome of a run that will never succeed.
        own: AMQP queues of the app. No answer goes there: by a message with such a `reply_to` a
            stranger could have a worker enqueue jobs.
        largest: bytes that a result may have.
        compression: of large replies, to callers that can undo it; None for none.
        clock: what deadlines are told by.

    Attributes:
        gone: how many callers were no longer there.
    """

    def __init__(
        self,
        publication: Publication,
        rejected: Reject,
        own: Collection[str],
        largest: int,
        clock: Clock = MACHINE,
        compression: Compression | None = None,
    ) -> None:
        self.gone = 0
        self._publication = publication
        self._rejected = rejected
        self._own = frozenset(own)
        self._largest = largest
        self._compression = compression
        self._time = clock.time
        self._waiting: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._variables = context_of_nobody()

    def __repr__(self) -> str:
        return f"<Answering: {self.gone} callers were gone>"

    async def answer(self, run: Run, outcome: Outcome) -> Outcome:
        """Send the reply to the caller, if this is the end of the job.

        Returns:
            The outcome to settle with: `Answered` for a failure that the caller received, and for a
            job that is not known here: parked, it would run when nobody waits for it any more.
        """
        address, run.asked = run.asked or "", None  # from here on it cannot be cancelled
        if (envelope := run.delivery.envelope) is not None:
            return await self._tell_others(run, outcome, envelope)
        deadline = run.context.deadline if run.context else None
        if isinstance(outcome, Skipped) or (isinstance(outcome, Cancelled) and outcome.answers):
            if self._may_answer(run, address):
                body = error_body(self._rejected(run, outcome.word, outcome.reason).failure)
                await self._tell(run, address, body, ERROR_REPLY, deadline)
            return outcome
        if run.cancelled and not hasattr(run, "why"):  # its handler did not mind
            return outcome if isinstance(outcome, Done) else Cancelled()
        if isinstance(outcome, Snoozed) and deadline is not None and outcome.due >= deadline:
            words = "its next run would start after the caller's deadline"
            outcome = self._rejected(run, "rejected", words)
        if not isinstance(outcome, Done | Rejected | Parked) or not self._may_answer(run, address):
            return outcome
        body, kind = self._body(run, outcome)
        told = await self._tell(run, address, body, kind, deadline)
        if not isinstance(outcome, Done) and told and not address.startswith(DIRECT):
            return Answered(outcome.failure, outcome.error)
        return outcome

    async def _tell_others(self, run: Run, outcome: Outcome, envelope: Envelope) -> Outcome:
        """Tell another job system how its job has ended. Its messages name a reply queue whether
        anybody waits or not, so that a failure is a dead letter all the same."""
        now = self._time()
        try:
            ending = ending_of(outcome, run.definition, now, self._largest)
        except Exception as error:  # noqa: BLE001 - serializers are the user's
            outcome = self._rejected(run, "failed", error)
            ending = Ending(FAILED, now, failure=outcome.failure, error=error)
        if ending is None:
            return outcome
        properties = run.delivery.readable_properties()
        for reply in envelope.replies(properties, run.delivery.body, ending):
            if self._may_answer(run, reply.queue):
                await self._send(run, reply.queue, reply.properties, reply.body, CONFIRM_TIMEOUT)
        return outcome

    def _may_answer(self, run: Run, address: str) -> bool:
        if address in self._own or address.startswith(OURS):
            log.warning(
                "reply not sent",
                extra=_keys(run, reply_to=address, reason="reply_to names a queue of jobs"),
            )
            return False
        return bool(address)

    def _body(self, run: Run, outcome: Done | Rejected | Parked) -> tuple[bytes, str | None]:
        """The body of the answer, and its AMQP ``type``."""
        if not isinstance(outcome, Done):
            return error_body(outcome.failure), ERROR_REPLY
        assert run.definition is not None  # noqa: S101 - it was run
        try:
            return dump_result(run.definition, outcome.result, self._largest), None
        except (InvalidResult, ConfigurationError) as error:
            problem: Exception = error
        except Exception as error:  # noqa: BLE001 - serializers are the user's
            problem = error
        log.warning(
            "result not sendable, caller gets error",
            extra=_keys(run, error=words_of(problem)),
        )
        attempt = run.context.attempt if run.context else None
        failure = Failure(
            "failed",
            words_of(problem),
            exception=exception_name(problem),
            job=run.definition.name,
            attempt=attempt,
        )
        return error_body(failure), ERROR_REPLY

    async def _tell(
        self, run: Run, address: str, body: bytes, kind: str | None, deadline: float | None
    ) -> bool:
        """Publish the answer; whether RabbitMQ has confirmed that it is in the caller's queue."""
        left = CONFIRM_TIMEOUT if deadline is None else deadline - self._time()
        if left <= 0:
            log.info("reply not sent", extra=_keys(run, reason="the deadline has passed"))
            return False
        encoding = None if self._compression is None else self._encoding(run, body)
        if encoding is not None:
            body = compressed(body, encoding)
        properties = Properties(
            content_type=JSON,
            content_encoding=encoding,
            headers=reply_trace(run.context),
            delivery_mode=TRANSIENT,
            correlation_id=run.delivery.header.correlation_id,
            type=kind,
        )
        return await self._send(run, address, properties, body, left)

    async def _send(
        self, run: Run, address: str, properties: Properties, body: bytes, left: float
    ) -> bool:
        fate = self._publication.send(
            "", address, properties, body, mandatory=not address.startswith(DIRECT)
        )
        self._watch(fate, left)
        try:
            await fate
        except Unroutable:
            self.gone += 1
            log.info("reply not sent", extra=_keys(run, reason="the caller is gone"))
        except PublishError as error:
            log.warning("reply may be lost", extra=_keys(run, error=str(error)))
        except asyncio.CancelledError:
            own = asyncio.current_task()
            self._publication.take_back(fate)
            if own is not None and own.cancelling() and not run.interrupted:
                raise
            log.warning("reply may be lost", extra=_keys(run, error="not confirmed in time"))
        else:
            return True
        finally:
            del self._waiting[fate]
        return False

    def _encoding(self, run: Run, body: bytes) -> str | None:
        """How a reply is compressed: only if its caller says that it can undo that."""
        encoding = self._compression.of(body) if self._compression is not None else None
        try:
            known = encoding is not None and accepts(run.delivery.header.headers, encoding)
        except DecodeError:
            known = False
        return encoding if known else None

    def _watch(self, fate: "asyncio.Future[None]", left: float) -> None:
        """Cancel it when so many seconds are over, or a little later: one timer for all."""
        self._waiting[fate] = time.monotonic() + left
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                SWEEP, self._sweep, context=self._variables
            )

    def _sweep(self) -> None:
        now = time.monotonic()
        for fate, end in self._waiting.items():
            if end <= now:
                fate.cancel()
        self._timer = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(
                SWEEP, self._sweep, context=self._variables
            )


def _keys(run: Run, **more: object) -> dict[str, object]:
    return {**(run.context.log_keys() if run.context else {"queue": run.delivery.queue}), **more}

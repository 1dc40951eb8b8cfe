"""Answering: who asked for a job is told what came of it, before its delivery is acked.

So a worker that dies in between answers twice, never not at all; the asker takes the first. Changes
when an answer, or what its fate means for the job, does.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import ConfigurationError, InvalidResult, PublishError, Unroutable
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.context import context_of_nobody
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import ERROR_REPLY, JSON, TRANSIENT, Properties
from amqpjobs.jobs.message.reply import error_body
from amqpjobs.jobs.outcome import Answered, Cancelled, Done, Outcome, Rejected, Snoozed
from amqpjobs.jobs.results import dump_result
from amqpjobs.telemetry.traces.propagation import reply_trace
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
        clock: what deadlines are told by.

    Attributes:
        gone: how many askers were not there any more.
    """

    def __init__(
        self,
        publication: Publication,
        rejected: Reject,
        own: Collection[str],
        largest: int,
        clock: Clock = MACHINE,
    ) -> None:
        self.gone = 0
        self._publication = publication
        self._rejected = rejected
        self._own = frozenset(own)
        self._largest = largest
        self._time = clock.time
        self._waiting: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._variables = context_of_nobody()

    def __repr__(self) -> str:
        return f"<Answering: {self.gone} askers were gone>"

    async def answer(self, run: Run, outcome: Outcome) -> Outcome:
        """Tell who asked, if this is the end of the job.

        Returns:
            The outcome to settle with: `Answered` for a failure that the asker was told of.
        """
        address, run.asked = run.asked or "", None  # from here on it cannot be cancelled any more
        if run.cancelled:  # and its handler did not mind
            return outcome if isinstance(outcome, Done) else Cancelled()
        deadline = run.context.deadline if run.context else None
        if isinstance(outcome, Snoozed) and deadline is not None and outcome.due >= deadline:
            words = "it was put off until nobody would wait for its answer any more"
            outcome = self._rejected(run, "rejected", words)
        if not isinstance(outcome, Done | Rejected) or not self._may_answer(run, address):
            return outcome
        body, kind = self._body(run, outcome)
        told = await self._tell(run, address, body, kind, deadline)
        if isinstance(outcome, Rejected) and told and not address.startswith(DIRECT):
            return Answered(outcome.failure, outcome.error)
        return outcome

    def _may_answer(self, run: Run, address: str) -> bool:
        if address in self._own or address.startswith(OURS):
            log.warning(
                "not answered: reply_to names a queue of jobs", extra=_keys(run, reply_to=address)
            )
            return False
        return bool(address)

    def _body(self, run: Run, outcome: Done | Rejected) -> tuple[bytes, str | None]:
        """The body of the answer, and its AMQP ``type``."""
        if isinstance(outcome, Rejected):
            return error_body(outcome.failure), ERROR_REPLY
        assert run.definition is not None  # noqa: S101 - it was run
        try:
            return dump_result(run.definition, outcome.result, self._largest), None
        except (InvalidResult, ConfigurationError) as error:
            problem: Exception = error
        except Exception as error:  # noqa: BLE001 - serializers are the user's
            problem = error
        log.warning(
            "the job is done, and its result cannot be sent: who asked gets an error",
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
        """Publish the answer; whether RabbitMQ has confirmed that it is in the asker's queue."""
        left = CONFIRM_TIMEOUT if deadline is None else deadline - self._time()
        if left <= 0:
            log.info("not answered: the deadline is over", extra=_keys(run))
            return False
        properties = Properties(
            content_type=JSON,
            headers=reply_trace(run.context),
            delivery_mode=TRANSIENT,
            correlation_id=run.delivery.header.correlation_id,
            type=kind,
        )
        fate = self._publication.send(
            "", address, properties, body, mandatory=not address.startswith(DIRECT)
        )
        self._watch(fate, left)
        try:
            await fate
        except Unroutable:
            self.gone += 1
            log.info("not answered: who asked is gone", extra=_keys(run))
        except PublishError as error:
            log.warning("the answer may be lost", extra=_keys(run, error=str(error)))
        except asyncio.CancelledError:
            own = asyncio.current_task()
            self._publication.take_back(fate)
            if own is not None and own.cancelling() and not run.interrupted:
                raise
            log.warning("the answer may be lost: not confirmed in time", extra=_keys(run))
        else:
            return True
        finally:
            del self._waiting[fate]
        return False

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

"""What the end of a handler means for its job: done again, put aside, or given back.

Changes when an error, or a verdict, means something else.
"""

import asyncio
import random

from amqpjobs.errors import DecodeError, JobProcessDied
from amqpjobs.jobs.message.carried import policy_of
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import (
    GAVE_UP,
    INTERRUPTED,
    Cancelled,
    Outcome,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Undoing,
)
from amqpjobs.jobs.retry import (
    Retry,
    has_attempt_after,
    longest_pause_after,
    pause_after,
    retries,
)
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.jobs.verdicts import RateLimited, Reject, RetryAfter, Snooze, Undo, Verdict
from amqpjobs.worker.failures import exception_name, innermost_frames, words_of
from amqpjobs.worker.run import Run

NEVER = Retry(attempts=1)
"""The policy of jobs that run at most once, whatever they or their calls say."""


class Judge:
    """Makes outcomes of what handlers raise.

    Args:
        runtime: whose retry policy and clock.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._retry = runtime.registry.retry
        self._time = runtime.clock.time

    def ruled(self, run: Run, verdict: Verdict) -> Outcome:
        """What a verdict of the handler makes of the run."""
        match verdict:
            case RateLimited(seconds=seconds):
                return Snoozed(self._time() + seconds, rate_limited=seconds)
            case Snooze(seconds=seconds):
                return Snoozed(self._time() + seconds)
            case RetryAfter(seconds=seconds):
                failure = self.failure_of(run, "failed", f"retry after {seconds:g} s", verdict)
                context, policy = run.context, self._policy(run)
                if context is not None and has_attempt_after(policy, context.attempt):
                    return self._again(run, failure, seconds, verdict)
                return Rejected(failure, verdict)
            case Undo(reason=reason) if run.definition is not None and run.definition.durable:
                return Undoing(self.failure_of(run, "undone", reason), verdict)
            case Reject(reason=reason) | Undo(reason=reason):
                return self.rejected(run, "rejected", reason)
            case _:
                return self.failed(run, verdict)

    def judged(self, run: Run, error: BaseException) -> Outcome:
        """What an error in quarantine says of the job. What its handler raised is a failure like
        any other, and comes as a `RemoteError`."""
        if isinstance(error, JobProcessDied):
            words = f"{error}; it ran by itself, since a worker may have died of it"
            return self.rejected(run, "poison", words, error)
        if isinstance(error, DecodeError):
            return self.rejected(run, "invalid", error, error)
        return self.failed(run, error)

    def failed(self, run: Run, error: BaseException, message: str | None = None) -> Outcome:
        """What the retry policy makes of an error."""
        reason = "poison" if isinstance(error, JobProcessDied) else "failed"
        if message is None and isinstance(error, asyncio.CancelledError):
            message = "the job cancelled itself"
        failure = self.failure_of(run, reason, message or error, error)
        context, policy = run.context, self._policy(run)
        if context is None or not retries(policy, error, context.attempt):
            return Rejected(failure, error)
        pause = pause_after(policy, context.attempt, random.random())  # noqa: S311 - not a secret
        return self._again(run, failure, pause, error)

    def failed_by_us(self, run: Run, error: BaseException) -> Outcome:
        """The outcome of a run that a bug of amqpjobs has ended: an attempt."""
        failure = self.failure_of(run, "failed", f"a bug in amqpjobs: {words_of(error)}", error)
        context, policy = run.context, self._policy(run)
        if context is None or not has_attempt_after(policy, context.attempt):
            return Rejected(failure, error)
        return Retried(failure, longest_pause_after(policy, context.attempt), error)

    def _again(
        self, run: Run, failure: Failure, pause: float, error: BaseException
    ) -> Retried | Rejected:
        deadline = run.context.deadline if run.context else None
        if deadline is not None and self._time() + pause >= deadline:
            # Nobody would start it any more; as a dead letter it is seen, and can be replayed.
            return Rejected(failure, error)
        return Retried(failure, pause, error)

    def _policy(self, run: Run) -> Retry:
        definition, context = run.definition, run.context
        if definition is not None and definition.at_most_once:
            return NEVER
        own = definition.retry if definition and definition.retry is not None else self._retry
        carried = context.carried if context is not None else None
        return own if carried is None or carried.retry is None else policy_of(carried.retry, own)

    def rejected(
        self, run: Run, reason: str, message: object, error: BaseException | None = None
    ) -> Rejected:
        """The outcome of a run that will never succeed, with what is known of it."""
        return Rejected(self.failure_of(run, reason, message, error), error)

    def failure_of(
        self, run: Run, reason: str, message: object, error: BaseException | None = None
    ) -> Failure:
        """What is known of why a run failed."""
        return Failure(
            reason=reason,
            message=words_of(message),
            exception=exception_name(error) if error is not None else None,
            frames=innermost_frames(error) if error is not None else (),
            job=run.definition.name if run.definition else None,
            queue=run.delivery.queue,
            worker=WORKER,
            time=self._time(),
            attempt=run.context.attempt if run.context else None,
        )

    def ended_early(self, run: Run) -> Outcome:
        """What becomes of a run that was cancelled, by its stopping worker or by a caller."""
        if run.cancelled:
            return Cancelled(getattr(run, "why", GAVE_UP))
        if run.delivery.accepted:
            return self.rejected(run, INTERRUPTED, "the worker stopped; it runs at most once")
        return Released("the worker is stopping")

"""Who may run at once, for the runs of a worker: slots and claims are taken before a handler runs,
and given up when its job is settled.

Changes when a run takes another thing, or what is busy means something else.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from amqpjobs.errors import AmqpJobsError, ConfigurationError, DecodeError, StoreUnavailable
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.copies import copied, of_job, with_progress
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.message.headers import token_of
from amqpjobs.jobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Rejected,
    Skipped,
    Snoozed,
    Superseded,
    Waits,
)
from amqpjobs.jobs.refusal import Refused

if TYPE_CHECKING:
    import asyncio

    from amqpjobs.client.prepared import Prepared
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.exclusion.declared import Exclusion
    from amqpjobs.jobs.run_context import RunContext
    from amqpjobs.state.limits.claims import Claim
    from amqpjobs.state.limits.places import Holder
    from amqpjobs.state.limits.turn import Busy, Ending, Starting
    from amqpjobs.state.limits.turns import Turns
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.limits")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds for which jobs wait on their queue while the store is away; they double."""

OVER = (Done, Rejected, Answered, Expired, Cancelled, Skipped)
"""Ends of a job: its claim ends with it."""

Load = Callable[[], Arguments]
"""Validates the arguments of a run."""


class Limits:
    """What the jobs of a worker may do at once.

    Args:
        turns: takes and gives up.
    """

    def __init__(self, turns: "Turns") -> None:
        client = self._client = turns.client
        self._app = client.runtime.registry.name
        self._time = client.runtime.clock.time
        self._turns = turns
        self._pause, self._away = FIRST_PAUSE, 0.0

    def __repr__(self) -> str:
        return f"<Limits of {self._app}: {self._turns!r}>"

    @property
    def idle(self) -> bool:
        """Whether nothing is to be taken or given up."""
        return self._turns.idle

    async def take(
        self, run: "Run", definition: "Definition", context: "RunContext", load: Load
    ) -> None:
        """Take what a run needs; it is given up by `over`.

        Raises:
            Refused: it does not run now; with its outcome.
            Exception: what the function of a key raises.
        """
        exclusion = definition.exclusion
        if exclusion is None or not (exclusion.limits or exclusion.claims):
            return
        starting = self._starting(run, definition, context, exclusion, load)
        try:
            fate = await self._turns.take(starting)
        except (StoreUnavailable, ConfigurationError) as error:
            self._wait_for_store(context, error)
        self._pause = FIRST_PAUSE
        from amqpjobs.state.limits.turn import Busy, Ending

        if isinstance(fate, Busy):
            self._refuse(context, fate)
        run.exclusive = Ending(fate.holds, (), context.job_id)
        tokens = {
            want.key: hold.token for want, hold in zip(starting.wants, fate.holds, strict=True)
        }
        context.tokens = self._by_name(definition, exclusion, load, tokens)

    def _by_name(
        self, definition: "Definition", exclusion: "Exclusion", load: Load, tokens: dict[str, int]
    ) -> dict[str, int]:
        if not tokens:
            return {}
        named = zip(exclusion.limits, self._keys(definition, exclusion, load), strict=True)
        return {n: tokens[key] for bound, key in named for n in bound.names(definition.name)}

    def _keys(self, definition: "Definition", exclusion: "Exclusion", load: Load) -> list[str]:
        """The keys of the limits of a run, as they are stored."""
        from amqpjobs.state.limits.keys import LIMIT, key_in

        simple = all(bound.key is None for bound in exclusion.limits)
        arguments = {} if simple else definition.payload.complete(load())
        texts = [bound.text(definition.name, arguments) for bound in exclusion.limits]
        return [key_in(self._app, LIMIT, text) for text in texts]

    def _starting(
        self,
        run: "Run",
        definition: "Definition",
        context: "RunContext",
        exclusion: "Exclusion",
        load: Load,
    ) -> "Starting":
        from amqpjobs.state.limits.places import Want
        from amqpjobs.state.limits.turn import Starting

        keys = self._keys(definition, exclusion, load)
        wants = [
            Want(key, bound.limit.n, bound.limit.seconds, bound.limit.when_busy)
            for key, bound in zip(keys, exclusion.limits, strict=True)
        ]
        # In the order of the limits, which that of the fences is; the turn locks keys in its own.
        unclaimed = exclusion.unique is not None and exclusion.unique.until == "start"
        claim = None if unclaimed else self._claim(definition, context, exclusion, load)
        return Starting(
            self._holder(run, context), tuple[Want, ...](wants), lambda: _waiting(run, context),
            context.deadline, claim, unclaimed,
        )  # fmt: skip

    @staticmethod
    def _holder(run: "Run", context: "RunContext") -> "Holder":
        from amqpjobs.state.limits.places import Holder
        from amqpjobs.state.limits.waiting import order_of_run

        run_number = order_of_run(context.epoch, context.attempt)
        again = run.delivery.redelivered
        return Holder(context.job_id, context.job, _copy_of(run), run_number, again, WORKER)

    def _claim(
        self, definition: "Definition", context: "RunContext", exclusion: "Exclusion", load: Load
    ) -> "Claim | None":
        if not exclusion.claims or exclusion.key is None:
            return None
        from amqpjobs.state.limits.claims import Claim
        from amqpjobs.state.limits.once import claim_key, ttl_of

        text = exclusion.key.of(definition.payload.complete(load()))
        key = claim_key(self._app, definition.name, exclusion, text)
        return Claim(key, definition.name, context.job_id, ttl_of(exclusion))

    def _wait_for_store(self, context: "RunContext", error: AmqpJobsError) -> NoReturn:
        """No job runs without its slot: it waits on its queue."""
        now = time.monotonic()
        pause = self._pause
        if now - self._away > pause / 2:  # once for all that start in this moment
            self._away = now
            self._pause = min(LONGEST_PAUSE, pause * 2)
            keys = {**context.log_keys(), "pause_s": pause, "error": str(error)}
            log.warning("store is away, limited jobs wait", extra=keys)
        raise Refused(Snoozed(self._time() + pause, rate_limited=pause))

    def _refuse(self, context: "RunContext", busy: "Busy") -> NoReturn:
        from amqpjobs.state.limits.keys import shown

        if busy.doubled:
            raise Refused(Superseded())
        _, key = shown(busy.want.key)
        if not busy.waits:
            raise Refused(Skipped(f"{key} is busy"))
        if busy.replaces:
            reason = f"replaced by job {context.job_id}"
            self._turns.beside(self._replace(busy.replaces, reason))
        raise Refused(Waits(key))

    async def _replace(self, job_ids: tuple[str, ...], reason: str) -> None:
        """Cancel jobs, whatever worker they run in."""
        from amqpjobs.state.status.cancelling import cancel_job

        for job_id in job_ids:
            try:
                await cancel_job(self._client, job_id, reason)
            except AmqpJobsError as error:
                extra = {"job_id": job_id, "error": str(error)}
                log.warning("job to be replaced not cancelled", extra=extra)

    def settled(self, run: "Run", outcome: Outcome) -> None:
        """A delivery is settled: what has ended with it, the job or only this run."""
        definition, context = run.definition, run.context
        if definition is None or context is None or definition.exclusion is None:
            return
        over = isinstance(outcome, OVER)
        if run.exclusive is None and not over:
            return
        ending = run.exclusive or self._untaken(run, definition, context)
        run.exclusive = replace(ending, over=over and definition.exclusion.claims)

    def _untaken(self, run: "Run", definition: "Definition", context: "RunContext") -> "Ending":
        """Of a job that ended before it took its slots, which may be kept for it."""
        from amqpjobs.state.limits.turn import Ending

        def load() -> Arguments:
            delivery = run.delivery
            most = self._client.runtime.settings.max_message_size
            body = received(definition.body, delivery.header, delivery.body, most)
            return definition.payload.load(body)

        assert definition.exclusion is not None  # noqa: S101 - the caller has looked
        try:
            keys = tuple(self._keys(definition, definition.exclusion, load))
        except Exception:  # noqa: BLE001 - it does not fit, or its key cannot be made
            keys = ()
        return Ending((), keys, context.job_id, _copy_of(run))

    def give_back(self, run: "Run") -> "asyncio.Future[None]":
        """Give up the slots of a run whose handler has ended; its claim is kept until the job has.

        Returns:
            Is done when they are free.
        """
        ending = run.exclusive
        assert ending is not None  # noqa: S101 - the caller has looked
        run.exclusive = replace(ending, holds=(), over=False)
        return self._turns.end(replace(ending, over=False))

    def over(self, run: "Run") -> None:
        """Give up what a run has: it is over, and so is its handler."""
        ending, run.exclusive = run.exclusive, None
        if ending is not None and (ending.holds or ending.abandoned or ending.over):
            self._turns.end(ending)

    def then(self, run: "Run", free: Callable[[], object]) -> Callable[[], object]:
        """The same, and then this."""

        def both() -> None:
            self.over(run)
            free()

        return both

    async def close(self) -> None:
        """The worker stops."""
        await self._turns.close()


def limits_of(turns: "Turns | None", stack: AsyncExitStack) -> Limits | None:
    """Those of a worker; None for an app whose jobs have none.

    Args:
        stack: left when the worker has stopped.
    """
    if turns is None:
        return None
    limits = Limits(turns)
    stack.push_async_callback(limits.close)
    return limits


def _copy_of(run: "Run") -> str:
    header = run.delivery.header
    if not header.has_amqpjobs_headers:
        return ""
    try:
        return token_of(header.headers) or ""
    except DecodeError:
        return ""


def _waiting(run: "Run", context: "RunContext") -> "Prepared":
    """The message that waits in place of a delivery: it says all that the delivery did."""
    from amqpjobs.client.prepared import Prepared

    delivery = run.delivery
    copy = with_progress(copied(delivery.readable_properties()), context.told)
    properties = of_job(copy, context.job_id, context.job)
    return Prepared(context.job_id, context.job, delivery.queue, properties, delivery.body)

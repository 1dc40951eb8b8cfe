"""The life of one delivery, as named steps: decode, resolve, validate, middleware, execution.

Every path through here ends in one `Outcome`; none settles anything. Changes when a step is added.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.errors import DecodeError, NoRoom
from amqpjobs.jobs.context import Context, Stopping
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durable.suspension import is_suspension
from amqpjobs.jobs.handlers import PLAIN, landed
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.message.content import received, too_large
from amqpjobs.jobs.message.given import Given
from amqpjobs.jobs.message.header_names import CALLBACKS_ENCODED
from amqpjobs.jobs.message.headers import read, read_carried
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.middleware import onion
from amqpjobs.jobs.outcome import (
    DONE_NOTHING,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Parked,
    Released,
    Snoozed,
    Superseded,
    Suspended,
)
from amqpjobs.jobs.queue.queue import lanes_of
from amqpjobs.jobs.refusal import Refused
from amqpjobs.jobs.run_context import RunContext, current_context, of_this_run
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.jobs.verdicts import Verdict
from amqpjobs.worker.cancelled_jobs import CancelledJobs
from amqpjobs.worker.deferral import LONGEST_HOLD
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.judge import Judge
from amqpjobs.worker.room import Room, lack_behind
from amqpjobs.worker.run import Run

if TYPE_CHECKING:
    from amqpjobs.worker.chunks import RunsItem
    from amqpjobs.worker.durable import DurableWork
    from amqpjobs.worker.events import Announcer
    from amqpjobs.worker.execution.handlers import Execution
    from amqpjobs.worker.limits import Limits
    from amqpjobs.worker.quarantine import Quarantine
    from amqpjobs.worker.recently_settled import Settled

log = logging.getLogger("amqpjobs.worker")

ROOM_PAUSE = 1.0
"""Seconds after which a job that may run once only, and found no room, is tried again."""

Layer: TypeAlias = Callable[[Run, Awaitable[object]], Awaitable[object]]
"""Waits for a run's middleware and handler, and returns or raises what they do."""

Join: TypeAlias = Callable[[Run, Definition, RunContext, Arguments], Awaitable[object]]
"""Runs a job together with others. See `amqpjobs.worker.batches.Batches.join`."""


def _unheard(run: Run) -> None:
    """Nobody is told that a job has begun."""


class Pipeline:
    """Turns a delivery into an outcome.

    Args:
        runtime: whose jobs.
        execution: how handlers are run.
        stopping: set when the worker is told to stop.
        only_jobs: by AMQP queue: the one job for messages that name none.
        max_size: bodies over this many bytes are refused.
        settled: what was settled here before, and may come again.
        taken_back: whether the caller cancelled a run before it started.
        announcer: who is told that a job has begun, and how far it is; None for nobody.
        endings: knows how the worker itself ends.
        room: is told of a job that found none.
        around: one more layer around each run's middleware and handler, such as its span.
        accept: acks a delivery before its job runs, for jobs that run at most once.
        cancelled_jobs: which are not to run; None for none.
        join: runs a job in a batch with others; None where no job has batches.
        limits: takes what a job needs that may not run at once with others; None where none does.
        durable: begins the runs of durable jobs; None where there are none.
    """

    def __init__(
        self,
        runtime: Runtime,
        execution: "Execution",
        stopping: Stopping,
        only_jobs: Mapping[str, Definition],
        max_size: int,
        settled: "Settled",
        taken_back: Callable[[Run], bool],
        announcer: "Announcer | None" = None,
        endings: Endings | None = None,
        room: Room | None = None,
        around: "Layer | None" = None,
        accept: Callable[[Delivery], None] = Delivery.accept,
        cancelled_jobs: "CancelledJobs | None" = None,
        join: "Join | None" = None,
        limits: "Limits | None" = None,
        durable: "DurableWork | None" = None,
    ) -> None:
        self._jobs, self._known = runtime.registry.jobs, runtime.registry.known
        queues = runtime.registry.queues.values()
        self._queues = {lane.queue: queue.name for queue in queues for lane in lanes_of(queue)}
        self._execution, self._stopping = execution, stopping
        self._only_jobs, self._max_size = only_jobs, max_size
        self._settled, self._taken_back = settled, taken_back
        self._cancelled_jobs = cancelled_jobs or CancelledJobs({})
        self._cancelled = self._cancelled_jobs.known
        self._accept = accept
        self.judge = Judge(runtime)
        self._time = runtime.clock.time
        self._around, self._join, self._limits, self._durable = around, join, limits, durable
        self._put_off: Callable[[RunContext], Outcome] | None = getattr(durable, "put_off", None)
        self._endings = endings or Endings()
        self._room = room or Room(lambda: None)
        self._tell = announcer.progressed if announcer is not None else None
        heard = announcer is not None and announcer.enabled
        self._begins = announcer.started if announcer is not None and heard else _unheard

    async def outcome_of(self, run: Run) -> Outcome:
        """Work on a delivery. Never raises, but for what ends the whole worker."""
        try:
            definition, context = self._open(run)
            token = current_context.set(context)
            try:
                if definition.remembered:
                    await self._remember(run, definition, context)
                call = self._call_part if run.parented else self._call
                calling = call(run, definition, context)
                if self._around is not None:
                    calling = self._around(run, calling)
                if definition.at_most_once:
                    self._accept(run.delivery)
                run.begun = run.started
                self._begins(run)
                result = await calling
                if type(result) not in PLAIN:
                    result = await landed(result)
            finally:
                current_context.reset(token)
        except Refused as refusal:
            return refusal.outcome
        except Verdict as verdict:
            return self.judge.ruled(run, verdict)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            return await self._raised(run, error)
        if result is None:
            return DONE_NOTHING
        if isinstance(result, Verdict):
            return self.judge.ruled(run, result)
        return Done(result)

    def _open(self, run: Run) -> tuple[Definition, RunContext]:
        """Decode the properties, find the job, and see whether it should still run."""
        delivery = run.delivery
        try:
            header = delivery.header
            if header.reply_to is not None:
                run.asked = header.reply_to
            definition = self._resolve(run, header.type)
            run.definition = definition
            run.family = definition.durable
            attempt, deadline, due, epoch, carried = 1, None, None, 0, None
            if header.has_amqpjobs_headers:
                # Decoding a table costs more than all the rest here; most messages have none of
                # ours.
                run.carries(header.raw_headers)
                attempt, deadline, due, epoch = read(header.headers)
                carried = read_carried(header.headers)
            queue = self._queues.get(delivery.queue, definition.queue.name)
            context = run.context = RunContext(
                definition.name, header.message_id or new_job_id(), queue, attempt, deadline,
                self._stopping, delivery.properties, epoch, self._tell,
            )  # fmt: skip
            context.carried = carried
            if delivery.redelivered:
                context.redelivered = True
        except DecodeError as error:
            raise Refused(self.judge.rejected(run, "undecodable", error, error)) from None
        # Of a durable job its row says so: of two copies one may be acked since the other one runs.
        rows = definition.durable and self._durable is not None
        if delivery.redelivered and not rows and self._settled.knows(delivery):
            raise Refused(Superseded())
        if deadline is not None and deadline < self._time():
            raise Refused(Expired(deadline))
        if run.asked is not None and self._taken_back(run):
            raise Refused(Cancelled())
        if self._cancelled or (run.parented and self._put_off is not None):
            self._check_place(run, context)
        if due is not None and due > self._time() + LONGEST_HOLD:
            raise Refused(Snoozed(due))
        return definition, context

    async def _remember(self, run: Run, definition: Definition, context: RunContext) -> None:
        """What is stored before it runs: what it takes, and that it has begun."""
        if definition.exclusion is not None:
            await self._exclude(run, definition, context)
        if definition.durable and self._durable is not None:
            await self._durable.begin(run, definition, context)

    async def _exclude(self, run: Run, definition: Definition, context: RunContext) -> None:
        """Take what it needs that others may have; it may have been cancelled meanwhile."""
        if self._limits is not None:
            await self._limits.take(
                run, definition, context, lambda: self._validate(run, definition)[0]
            )
        if self._cancelled:
            self._check_cancelled(context)

    def _check_place(self, run: Run, context: RunContext) -> None:
        if run.parented and self._put_off is not None:
            raise Refused(self._put_off(context))
        self._check_cancelled(context)

    def _check_cancelled(self, context: RunContext) -> None:
        if (why := self._cancelled_jobs.reason_of(context.job_id)) is not None:
            raise Refused(Cancelled(why))

    def _resolve(self, run: Run, name: str | None) -> Definition:
        if name is None:
            definition = self._only_jobs.get(run.delivery.queue)
            problem = "the message names no job (AMQP property `type`), and the queue has several"
        else:
            definition = self._jobs.get(name) or self._known(name)
            problem = f"no job of this name here: {name[:200]!r}"
        if definition is None:
            # Where its caller gets an answer it is no parked job, but one that has failed.
            run.callbacks = run.delivery.may_have(CALLBACKS_ENCODED)
            raise Refused(Parked(self.judge.failure_of(run, "unknown-job", problem)))
        return definition

    def _call(self, run: Run, definition: Definition, context: RunContext) -> Awaitable[object]:
        """What to wait for; not a coroutine of its own, which would cost and only pass it on."""
        if definition.at_most_once and run.delivery.stale:
            # It comes again, perhaps elsewhere: no ack could say that it has begun here.
            raise Refused(Released("its channel was lost before it started"))
        if run.quarantine is not None and not definition.durable:
            body = self._body(run, definition)
            return self._isolate(run, run.quarantine, definition, context, body)
        arguments, body = self._validate(run, definition)
        if definition.direct and context.carried is None:
            result: Awaitable[object] = definition.invoke(context, arguments)  # the commonest job
            return result
        return self._process(run, definition, context, arguments, body)

    async def _call_part(self, run: Run, definition: Definition, context: RunContext) -> object:
        """Part of a durable job. One message may have several items of a map."""
        if self._durable is not None:
            chunk = run.chunk = await self._durable.chunk_of(run, definition, context)
            if chunk is not None:
                body = self._chunks_body(run, definition)
                ended = await chunk.run(run.delivery, definition, context, body, self._item_of(run))
                if ended is not DONE_NOTHING:
                    raise Refused(ended)
                return None
        return await self._call(run, definition, context)

    def _chunks_body(self, run: Run, definition: Definition) -> bytes:
        try:
            return self._body(run, definition)
        except DecodeError as error:
            raise Refused(self.judge.rejected(run, "invalid", error, error)) from None

    def _item_of(self, run: Run) -> "RunsItem":
        """What runs one item of a chunk: as `outcome_of` does with a job."""

        async def item(context: RunContext, body: bytes) -> Outcome:
            definition = run.definition
            assert definition is not None  # noqa: S101 - it was found before
            token = current_context.set(context)
            try:
                if run.quarantine is not None:
                    result = await self._isolate(run, run.quarantine, definition, context, body)
                else:
                    arguments = definition.payload.load(body)
                    result = await self._process(run, definition, context, arguments, body)
                if type(result) not in PLAIN:
                    result = await landed(result)
            except DecodeError as error:
                return self.judge.rejected(run, "invalid", error, error)
            except Refused as refusal:
                return refusal.outcome
            except Verdict as verdict:
                return self.judge.ruled(run, verdict)
            except BaseException as error:  # noqa: BLE001 - as in `outcome_of`
                return await self._raised(run, error)
            finally:
                current_context.reset(token)
            return self.judge.ruled(run, result) if isinstance(result, Verdict) else Done(result)

        return item

    def _validate(self, run: Run, definition: Definition) -> tuple[Arguments, bytes]:
        try:
            body = self._body(run, definition)
            return definition.payload.load(body), body
        except DecodeError as error:
            raise Refused(self.judge.rejected(run, "invalid", error, error)) from None

    def _body(self, run: Run, definition: Definition) -> bytes:
        header, body = run.delivery.header, run.delivery.body
        if len(body) > self._max_size:
            too_large(body, self._max_size)
        form = definition.body
        if form is not None or header.content_type != JSON or header.content_encoding is not None:
            body = received(form, header, body, self._max_size)
        return body

    async def _isolate(
        self,
        run: Run,
        quarantine: "Quarantine",
        definition: Definition,
        context: RunContext,
        body: bytes,
    ) -> object:
        """Middleware around it, as around every job; it is validated where it runs, unless
        middleware asks for the arguments."""
        given = context.given = Given(definition.payload, body, None)

        def execute(inner: Context) -> Awaitable[object]:
            return quarantine.run(definition, of_this_run(inner), given.body)

        return await onion(definition.layers, execute)(context)

    def _process(
        self,
        run: Run,
        definition: Definition,
        context: RunContext,
        arguments: Arguments,
        body: bytes,
    ) -> Awaitable[object]:
        if not definition.layers and definition.batch is None:
            return self._execution.run(definition, context, arguments, body)
        given = context.given = Given(definition.payload, body, arguments)
        join, execution = self._join, self._execution.run

        def execute(inner: Context) -> Awaitable[object]:
            if join is not None and definition.batch is not None:
                return join(run, definition, of_this_run(inner), given.arguments)
            sent = given.body if definition.kind == "process" else body
            return execution(definition, of_this_run(inner), given.arguments, sent)

        return onion(definition.layers, execute)(context)

    async def _raised(self, run: Run, error: BaseException) -> Outcome:
        """The outcome of a run that has raised, whatever it is: `sys.exit`, a cancellation of its
        own, KeyboardInterrupt, and panics of extension modules too. Through the event loop they
        would end this worker, and the next one that is given the job; given back, it would be here
        again at once."""
        if run.interrupted or run.cancelled:
            # Libraries turn a cancellation into errors of their own.
            return self.judge.ended_early(run)
        if self._endings.is_from_outside(error):
            raise error
        if run.family and is_suspension(error) and _is_left(run):
            return Suspended()
        if (lack := lack_behind(error)) is not None:
            if not run.delivery.accepted:
                return await self._no_room(run, lack)
            if isinstance(error, NoRoom):  # so that its handler has not begun
                return Snoozed(self._time() + ROOM_PAUSE)
        judge = self.judge.failed if run.quarantine is None else self.judge.judged
        return judge(run, error)

    async def _no_room(self, run: Run, lack: str) -> Outcome:
        """Given back, and no attempt used: but not at once."""
        try:
            await self._room.lacking(lack)
        except asyncio.CancelledError as error:
            if self._endings.is_from_outside(error):
                raise
        if run.cancelled:
            return self.judge.ended_early(run)
        return Released(f"no room in this worker: {lack}")


def _is_left(run: Run) -> bool:
    """Whether it is a durable job that goes on later."""
    durable = None if run.context is None else run.context.durable
    return durable is not None and durable.suspending

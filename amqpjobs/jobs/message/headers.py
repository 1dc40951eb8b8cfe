"""The headers ``amqpjobs-*``: their names, and the only code that reads or writes them.

Any program that may publish can have written them. What decides whether a job runs is read strictly
(`read`), what is only shown or counted leniently. Changes when the wire contract gets a header.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.carried import Carried, retry_from, retry_table, tags_from, timeout_from
from amqpjobs.jobs.message.events import Progress, progress_from
from amqpjobs.jobs.message.failure import Failure, failure_from, table_of, text_or_none
from amqpjobs.jobs.message.family import Family, family_from, family_table
from amqpjobs.jobs.message.header_info import LAST_MOMENT, JobHeaders, milliseconds
from amqpjobs.jobs.message.header_names import (
    HEADER_ACCEPT,
    HEADER_ATTEMPT,
    HEADER_CALLBACKS,
    HEADER_COPY,
    HEADER_DEADLINE,
    HEADER_DROPPED,
    HEADER_DUE,
    HEADER_EPOCH,
    HEADER_ERROR,
    HEADER_FIRST_TRY,
    HEADER_HISTORY,
    HEADER_ORIGIN,
    HEADER_PARENT,
    HEADER_PROGRESS,
    HEADER_REPLAY,
    HEADER_RETRY,
    HEADER_RUN_TIMEOUT,
    HEADER_STEPS,
    HEADER_TAGS,
    HEADER_TICK,
    KEPT_FIRST,
    LEFT_BEHIND,
    LONGEST_TOKEN,
    MAX_ATTEMPT,
    MAX_EPOCH,
    MAX_HISTORY,
    MAX_HISTORY_TEXT,
)
from amqpjobs.jobs.message.ids import new_token, next_token
from amqpjobs.jobs.message.origin import Origin, origin_from, origin_of_death, origin_table
from amqpjobs.jobs.message.properties import FieldValue, Headers, is_whole
from amqpjobs.jobs.message.steps import CarriedStep, steps_from, steps_table
from amqpjobs.jobs.message.tick import Tick, tick_from, tick_table
from amqpjobs.jobs.message.trace_context import (
    RemoteSpan,
    SpanIds,
    span_of,
    traceparent_of,
)

T = TypeVar("T")


def read(headers: Headers) -> JobHeaders:
    """What the headers say; for a worker that is about to start the job.

    An epoch that is none counts as 0: it decides nothing.

    Raises:
        DecodeError: one makes no sense; the error names the header.
    """
    # In few steps: a worker does this for every job that was retried or delayed.
    get = headers.get
    attempt, deadline, due = get(HEADER_ATTEMPT), get(HEADER_DEADLINE), get(HEADER_DUE)
    if attempt is None:
        attempt = 1
    elif type(attempt) is not int or not 1 <= attempt <= MAX_ATTEMPT:
        raise DecodeError(f"header {HEADER_ATTEMPT} is not a whole number from 1")
    if deadline is not None:
        deadline = _moment(HEADER_DEADLINE, deadline)
    if due is not None:
        due = _moment(HEADER_DUE, due)
        if due > LAST_MOMENT:
            raise DecodeError(f"header {HEADER_DUE} is after the year 287396")
    return JobHeaders(attempt, deadline, due, epoch_of(headers) if HEADER_EPOCH in headers else 0)


def read_leniently(headers: Headers) -> JobHeaders:
    """The same for what is only shown or counted: a header that makes no sense is a missing one."""
    attempt, due = headers.get(HEADER_ATTEMPT), _moment_or_none(headers.get(HEADER_DUE))
    return JobHeaders(
        attempt if is_whole(attempt) and 1 <= attempt <= MAX_ATTEMPT else 1,
        _moment_or_none(headers.get(HEADER_DEADLINE)),
        due if due is None or due <= LAST_MOMENT else None,
        epoch_of(headers),
    )


def write(said: JobHeaders) -> dict[str, FieldValue]:
    """The headers that say this; what is as in `JobHeaders` by default needs none."""
    headers: dict[str, FieldValue] = {}
    if said.attempt != 1:
        headers[HEADER_ATTEMPT] = said.attempt
    if said.deadline is not None:
        headers[HEADER_DEADLINE] = round(said.deadline * 1000)
    if said.due is not None:
        headers[HEADER_DUE] = milliseconds(said.due)
    if said.epoch:
        headers[HEADER_EPOCH] = said.epoch
    return headers


def read_carried(headers: Headers) -> Carried | None:
    """What the headers say of the call's options; None if they say nothing of them.

    Raises:
        DecodeError: one that decides something makes no sense; the error names the header.
    """
    get = headers.get
    retry, timeout, tags = get(HEADER_RETRY), get(HEADER_RUN_TIMEOUT), get(HEADER_TAGS)
    if retry is None and timeout is None and tags is None:
        return None
    policy = _of(HEADER_RETRY, retry_from, retry)
    limit = _of(HEADER_RUN_TIMEOUT, timeout_from, timeout)
    return Carried(policy, limit, tags_from(tags))


def _of(name: str, read_value: Callable[[FieldValue], T], value: FieldValue) -> T | None:
    try:
        return None if value is None else read_value(value)
    except DecodeError as error:
        raise DecodeError(f"header {name} {error}") from None


def tags_of(headers: Headers) -> tuple[str, ...]:
    """The tags of a job, as far as the headers say them."""
    return tags_from(headers.get(HEADER_TAGS))


def write_carried(carried: Carried) -> dict[str, FieldValue]:
    """The headers that say this."""
    headers: dict[str, FieldValue] = {}
    if carried.retry is not None:
        headers[HEADER_RETRY] = retry_table(carried.retry)
    if carried.timeout is not None:
        headers[HEADER_RUN_TIMEOUT] = max(1, round(carried.timeout * 1000))
    if carried.tags:
        headers[HEADER_TAGS] = carried.tags
    return headers


def epoch_of(headers: Headers) -> int:
    """How often the job was replayed; 0 if what the header says makes no sense."""
    epoch = headers.get(HEADER_EPOCH)
    return epoch if is_whole(epoch) and 0 <= epoch <= MAX_EPOCH else 0


def _moment_or_none(value: FieldValue) -> float | None:
    return value / 1000 if is_whole(value) and value >= 0 else None


def _moment(name: str, value: FieldValue) -> float:
    if type(value) is not int or value < 0:
        raise DecodeError(f"header {name} is not milliseconds since the epoch")
    return value / 1000


def token_of(headers: Headers) -> str | None:
    """The token of this publish of a job; None if it has none, "" for one that is not usable."""
    token = headers.get(HEADER_COPY)
    if token is None:
        return None
    return token if isinstance(token, str) and len(token) <= LONGEST_TOKEN else ""


def token_header() -> dict[str, FieldValue]:
    """A new token, which no other publish has. Every copy has one, and every first publish whose id
    was not made for it alone."""
    return {HEADER_COPY: new_token()}


def fingerprint(headers: Headers) -> str:
    """What tells copies of one message apart, whatever the values are: a retry has another attempt,
    a snoozed job another time, a replay another epoch, and each its token."""
    names = (HEADER_ATTEMPT, HEADER_COPY, HEADER_DUE, HEADER_EPOCH)
    return repr([headers.get(name) for name in names])


def for_copy(
    headers: Headers, failure: Failure | None = None, *, keep_due: bool = False
) -> dict[str, FieldValue]:
    """The headers of a copy: with a token of its own, without what the broker wrote.

    Args:
        headers: of the original.
        failure: why it was put aside; None for a copy that goes back.
        keep_due: whether the copy is due when the original was.
    """
    copy = {name: value for name, value in headers.items() if name not in LEFT_BEHIND}
    copy[HEADER_COPY] = next_token(token_of(headers))
    if (origin := origin_of(headers)) is not None:
        copy |= origin_header(origin)
    if failure is not None:
        copy[HEADER_ERROR] = table_of(failure)
    if keep_due and HEADER_DUE in headers:
        copy[HEADER_DUE] = headers[HEADER_DUE]
    return copy


def for_retry(headers: Headers, failure: Failure, attempt: int) -> dict[str, FieldValue]:
    """The headers of a copy that runs after a failed run, which becomes the last of its history."""
    history: list[FieldValue] = [table_of(f) for f in history_of(headers, failure)]
    return {**headers, HEADER_ATTEMPT: attempt, HEADER_HISTORY: history}


def for_replay(headers: Headers) -> dict[str, FieldValue]:
    """The headers of a dead letter that becomes a job again: at attempt 1, in the next epoch,
    without a deadline. Why it died is the last of its history."""
    copy = for_copy(headers)
    for name in (HEADER_ATTEMPT, HEADER_DEADLINE, HEADER_REPLAY):
        copy.pop(name, None)
    copy[HEADER_EPOCH] = epoch_of(headers) + 1
    copy[HEADER_HISTORY] = [table_of(f) for f in history_of(headers, failure_of(headers))]
    return copy


def for_next_part(headers: Headers) -> dict[str, FieldValue]:
    """The headers of a durable job that is sent again. They lack the replay header, which counts
    once."""
    return {k: v for k, v in headers.items() if k != HEADER_REPLAY}


def history_of(headers: Headers, last: Failure | None = None) -> list[Failure]:
    """The errors of earlier runs as far as the message carries them, oldest first.

    Args:
        last: one more.
    """
    tables = headers.get(HEADER_HISTORY)
    tables = tables if isinstance(tables, list | tuple) else ()
    history = [failure_from(table) for table in tables if isinstance(table, Mapping)]
    if last is not None:
        history.append(replace(last, message=last.message[:MAX_HISTORY_TEXT]))
    return history[-MAX_HISTORY:]


def failure_of(headers: Headers) -> Failure | None:
    """Why a message was put aside: by amqpjobs, or by the broker itself (``x-death``); None if the
    headers do not say."""
    if isinstance(table := headers.get(HEADER_ERROR), Mapping):
        return failure_from(table)
    deaths = headers.get("x-death")
    if isinstance(deaths, list | tuple) and deaths and isinstance(deaths[0], Mapping):
        reason = text_or_none(deaths[0].get("reason"))
        queue = text_or_none(deaths[0].get("queue"))
        return Failure(f"broker-{reason or 'unknown'}", "put here by RabbitMQ itself", queue=queue)
    return None


def shorten_failure(
    headers: dict[str, FieldValue], fits: Callable[[dict[str, FieldValue], int], bool]
) -> None:
    """Say in fewer words why a message was put aside, unless that fits.

    Args:
        headers: are changed.
        fits: whether there is room for this header, of so many bytes at most.
    """
    table = headers.get(HEADER_ERROR)
    if fits({HEADER_ERROR: table}, KEPT_FIRST[HEADER_ERROR]):
        return
    if not isinstance(table, dict):
        headers[HEADER_ERROR] = None
        return
    cut = {name: v[:300] if isinstance(v, str) else v for name, v in table.items()}
    cut.pop("frames", None)
    headers[HEADER_ERROR] = cut


def dropped_of(headers: Headers) -> list[str]:
    """The names of headers that were dropped from earlier copies."""
    names = headers.get(HEADER_DROPPED)
    names = names if isinstance(names, list | tuple) else ()
    return [name for name in names if isinstance(name, str)]


def dropped_header(names: Iterable[str]) -> dict[str, FieldValue]:
    """The header that names them."""
    return {HEADER_DROPPED: list(names)}


def callback_table(headers: Headers, kind: str) -> FieldValue:
    """What is enqueued when the job has ended so; None for nothing."""
    tables = headers.get(HEADER_CALLBACKS)
    return tables.get(kind) if isinstance(tables, Mapping) else tables


def callbacks_header(tables: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
    """The header that says so."""
    return {HEADER_CALLBACKS: tables}


def first_try_of(headers: Headers) -> RemoteSpan | None:
    """The span of the job's first run; None if that was not traced."""
    return span_of(headers.get(HEADER_FIRST_TRY))


def first_try_header(span: SpanIds) -> dict[str, FieldValue]:
    """The header that names it, on the copies that run again."""
    return {HEADER_FIRST_TRY: traceparent_of(span)}


def progress_of(headers: Headers) -> Progress | None:
    """How far the job was when it ran last; None if the message does not say, or says nonsense."""
    return progress_from(headers.get(HEADER_PROGRESS))


def progress_header(progress: Progress) -> dict[str, FieldValue]:
    """The header that says so, on the copies that run again."""
    return {HEADER_PROGRESS: {"fraction": progress.fraction, "message": progress.message}}


def tick_of(headers: Headers) -> Tick | None:
    """The tick that a job was sent for; None for a job of no schedule, or if it says nonsense."""
    return tick_from(headers.get(HEADER_TICK))


def tick_header(tick: Tick) -> dict[str, FieldValue]:
    """The header that says so."""
    return {HEADER_TICK: tick_table(tick)}


def family_of(headers: Headers) -> Family | None:
    """The durable job that waits for a job; None without one, or if the header is malformed."""
    return family_from(headers.get(HEADER_PARENT))


def family_header(family: Family) -> dict[str, FieldValue]:
    """The header that names the durable job that waits for a job."""
    return {HEADER_PARENT: family_table(family)}


def replay_of(headers: Headers) -> str | bool | None:
    """Where a replayed durable job resumes: the name of a step; False to restart; None to keep all
    steps that are done."""
    table = headers.get(HEADER_REPLAY)
    if not isinstance(table, Mapping):
        return None
    step = table.get("from")
    return step if isinstance(step, str) and step else False


def replay_header(step: str | None) -> dict[str, FieldValue]:
    """The header that tells a durable job where to resume; None to restart."""
    return {HEADER_REPLAY: {} if step is None else {"from": step}}


def steps_of(headers: Headers) -> list[CarriedStep]:
    """The steps that a durable job without a store has done or begun. If the job is replayed from a
    step, they are the steps before it."""
    steps, replay = steps_from(headers.get(HEADER_STEPS)), replay_of(headers)
    if replay is None:
        return steps
    names = [step.name for step in steps]
    return steps[: names.index(replay)] if replay in names else []


def for_next_run(
    headers: Headers, steps: Iterable[CarriedStep], *, anew: bool
) -> dict[str, FieldValue]:
    """The headers of a copy of a durable job that carries these steps.

    Args:
        anew: whether attempts are counted from 1 again, since the job has made progress.
    """
    gone = {HEADER_STEPS, HEADER_REPLAY} | ({HEADER_ATTEMPT} if anew else set())
    copy = {name: value for name, value in headers.items() if name not in gone}
    if table := steps_table(steps):
        copy[HEADER_STEPS] = table
    return copy


def origin_of(headers: Headers) -> Origin | None:
    """Where an event was published, if it is a copy or was dead-lettered; None for a job."""
    return origin_from(headers.get(HEADER_ORIGIN)) or origin_of_death(headers)


def origin_header(origin: Origin) -> dict[str, FieldValue]:
    """The header that says so, on the copies of an event."""
    return {HEADER_ORIGIN: origin_table(origin)}


def accepts(headers: Headers, encoding: str) -> bool:
    """Whether who asked can undo a reply in this encoding."""
    told = headers.get(HEADER_ACCEPT)
    return isinstance(told, str) and encoding in told[:100].replace(" ", "").split(",")


def accept_header(encodings: str) -> dict[str, FieldValue]:
    """The header of a request that says so."""
    return {HEADER_ACCEPT: encodings}

"""The options of a call as `Job.with_options` takes them: checked, and merged with those before.

Changes when a call gets another option, or when one is given in another form.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durations import LONGEST_DELAY, Seconds, seconds_above_zero, seconds_from_zero
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.jobs.message.carried import (
    LONGEST_RUN,
    Carried,
    check_id,
    check_retry,
    check_tags,
)
from amqpjobs.jobs.message.message import Callbacks, Message, Options
from amqpjobs.jobs.message.own_headers import HeaderValue, OwnHeaders
from amqpjobs.jobs.queue.queue import Queue, route_of
from amqpjobs.jobs.retry import Retry

LONGEST = LONGEST_RUN
"""Seconds (49 days): RabbitMQ refuses a longer `expiration`, which is 32 bits of milliseconds."""


def merged(
    definition: Definition,
    base: Options,
    *,
    priority: str | int | None,
    expires: float | timedelta | None,
    timeout: float | timedelta | None,
    delay: float | timedelta | None,
    at: datetime | None,
    headers: Mapping[str, HeaderValue | None] | None,
    queue: Queue | str | None,
    retry: Retry | None,
    run_timeout: float | timedelta | None,
    id: str | None,  # noqa: A002 - as `with_options` calls it
    tags: Iterable[str] | None,
    on_success: Message[Any] | None,
    on_failure: Message[Any] | None,
) -> Options:
    """The options of `base` with those that are given; see `Job.with_options`.

    Raises:
        ConfigurationError: an option that cannot be used with this job's queue.
    """
    if delay is not None and at is not None:
        raise ConfigurationError("give delay=..., or at=..., not both")
    given: dict[str, Any] = {
        "priority": priority,
        "expires": _above_zero("expires", expires),
        "timeout": _above_zero("timeout", timeout),
        "delay": None if delay is None else seconds_from_zero("delay", delay),
        "at": _moment(at),
        "headers": None if headers is None else OwnHeaders(base.headers).merged(headers),
        "queue": None if queue is None else _known(definition, queue).name,
        "retry": None if retry is None else _retry_of(definition, retry),
        "run_timeout": None if run_timeout is None else _run_timeout_of(definition, run_timeout),
        "id": None if id is None else check_id(id),
        "tags": None if tags is None else check_tags(tags),
        "callbacks": _callbacks(base.callbacks, on_success, on_failure),
    }
    if delay is not None or at is not None:
        base = replace(base, delay=None, at=None)
    options = replace(base, **{k: v for k, v in given.items() if v is not None})
    route_of(queue_of(definition, options), options.priority)
    return options


def _callbacks(
    known: Callbacks | None, success: Message[Any] | None, failure: Message[Any] | None
) -> Callbacks | None:
    if success is None and failure is None:
        return known
    for name, given in (("on_success", success), ("on_failure", failure)):
        if given is not None and not isinstance(given, Message):
            raise ConfigurationError(f"{name} is a call of a job: write {name}=job.message(...)")
    from amqpjobs.jobs.message.callbacks import check_size  # here: most calls have none

    known = known or Callbacks()
    callbacks = Callbacks(success or known.success, failure or known.failure)
    check_size(callbacks)
    return callbacks


def queue_of(definition: Definition, options: Options) -> Queue:
    """The queue that a call goes to.

    Raises:
        ConfigurationError: the app has no such queue.
    """
    return definition.queue if options.queue is None else _known(definition, options.queue)


def _known(definition: Definition, queue: Queue | str) -> Queue:
    """A queue of the app, by its name or its definition."""
    name = queue.name if isinstance(queue, Queue) else queue
    known = definition.queues.get(name) if isinstance(name, str) else None
    if known is None:
        there = ", ".join(sorted(definition.queues))
        hint = did_you_mean(str(name), definition.queues)
        raise ConfigurationError(
            f"job {definition.name!r} cannot go to the queue {name!r}, which no job of the app is "
            f"bound to; there are: {there}{hint}"
        )
    if known.singleton and definition.batch is not None:
        raise ConfigurationError(
            f"job {definition.name!r} runs in batches, and one job of the singleton queue {name!r} "
            "is held at a time: leave out queue="
        )
    if isinstance(queue, Queue) and queue not in (known, Queue(name)):
        raise ConfigurationError(f"queue {name!r} is defined twice, differently")
    return known


def _retry_of(definition: Definition, retry: Retry) -> Retry:
    if check_retry(retry).attempts != 1 and definition.at_most_once:
        raise ConfigurationError(
            f"job {definition.name!r} runs at most once: there is nothing to retry, so leave out "
            "retry="
        )
    return retry


def _run_timeout_of(definition: Definition, seconds: Seconds) -> float | None:
    if definition.batch is not None:
        raise ConfigurationError(
            f"job {definition.name!r} runs in batches, and its timeout= is that of a whole batch: "
            "leave out run_timeout="
        )
    return _above_zero("run_timeout", seconds)


def carried_of(options: Options) -> Carried | None:
    """What a message carries of its options, checked: middleware may have replaced them.

    Raises:
        ConfigurationError: one that no message can carry.
    """
    retry, timeout, tags = options.retry, options.run_timeout, options.tags
    if retry is None and timeout is None and not tags:
        return None
    return Carried(
        None if retry is None else check_retry(retry),
        _above_zero("run_timeout", timeout),
        check_tags(tags),
    )


def _above_zero(name: str, given: Seconds | None) -> float | None:
    return None if given is None else seconds_above_zero(name, given, LONGEST)


def _moment(at: datetime | None) -> float | None:
    if at is None:
        return None
    if at.tzinfo is None or at.utcoffset() is None:
        raise ConfigurationError(
            f"at={at!r} has no time zone, so it is a different moment on each machine: give it "
            "one, such as datetime(..., tzinfo=ZoneInfo('Europe/Berlin'))"
        )
    moment = at.timestamp()
    if moment - time.time() > LONGEST_DELAY:
        raise ConfigurationError(f"at={at!r} is more than 8.5 years away")
    return moment

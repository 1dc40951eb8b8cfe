"""What follows a task that has ended: the calls that its signatures are.

Ids are made of the task's own, so that a task that runs twice calls the same tasks again under the
same ids. Changes when Celery calls what follows otherwise.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from amqpjobs.contrib.celery.calls import TaskCall
from amqpjobs.contrib.celery.headers import TaskHeaders, moment, text_of
from amqpjobs.contrib.celery.task_body import Signature, TaskBody
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.callbacks import MOST_TEXT, RESERVED
from amqpjobs.jobs.message.properties import FieldValue

_IDS: Final = uuid.UUID("b5c9d8f2-6f0c-5f5e-9a53-6d1e0c2f7a11")
"""The namespace of the ids of tasks that follow."""

HIGHEST: Final = 255


@dataclass(frozen=True, slots=True)
class Next:
    """A call that follows.

    Attributes:
        call: the call.
        queue: where it goes; None for the queue of the task that it follows.
    """

    call: TaskCall
    queue: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The task that has ended.

    Attributes:
        headers: of its message.
        body: of its message.
        now: when it has ended, in seconds since the epoch.
    """

    headers: TaskHeaders
    body: TaskBody
    now: float

    def after_success(self, result: object) -> list[Next]:
        """Its callbacks, and the next task of its chain.

        Args:
            result: of the task, as JSON has it.

        Raises:
            DecodeError: a signature makes no sense.
        """
        body = self.body
        calls = [
            self._next(signature, f"callback {i}", [result])
            for i, signature in enumerate(body.callbacks)
        ]
        if body.chain:
            embed = {"chain": body.chain_data[:-1]} if len(body.chain_data) > 1 else {}
            calls.append(self._next(body.chain[-1], "chain", [result], embed))
        return calls

    def after_failure(self) -> list[Next]:
        """Its callbacks for errors. They get the id of the task, as those that Celery's worker does
        not know itself.

        Raises:
            DecodeError: a signature makes no sense.
        """
        first = [self.headers.id]
        return [
            self._next(signature, f"errback {i}", first)
            for i, signature in enumerate(self.body.errbacks)
        ]

    def fails_with_it(self) -> list[tuple[str, str]]:
        """The tasks of the chain that will never run, of which the last one is what the caller
        waits for: the id and the reply queue of each."""
        found = []
        for signature in self.body.chain:
            reply_to = text_of(signature.options, "reply_to")
            if signature.id is not None and reply_to is not None:
                found.append((signature.id, reply_to))
        return found

    def _next(
        self,
        signature: Signature,
        place: str,
        first: list[Any],
        embed: Mapping[str, Any] | None = None,
    ) -> Next:
        options, headers = signature.options, self.headers
        call = TaskCall(
            task=signature.task,
            id=signature.id or str(uuid.uuid5(_IDS, f"{headers.id} {place}")),
            args=[*([] if signature.immutable else first), *signature.args],
            kwargs=signature.kwargs,
            root_id=text_of(options, "root_id") or headers.root_id,
            parent_id=text_of(options, "parent_id") or headers.id,
            group=text_of(options, "group_id"),
            group_index=_whole(options, "group_index", 0),
            eta=self._due(options),
            expires=self._moment(options, "expires"),
            time_limit=_number(options, "time_limit"),
            soft_time_limit=_number(options, "soft_time_limit"),
            priority=_whole(options, "priority", HIGHEST),
            ignore_result=options.get("ignore_result") is True,
            reply_to=text_of(options, "reply_to"),
            shadow=text_of(options, "shadow"),
            headers=_table(options, "headers"),
            stamps=_stamps(options),
            embed={**_linked(options), **(embed or {})},
        )
        return Next(call, _queue(options))

    def _due(self, options: Mapping[str, Any]) -> float | None:
        seconds = _number(options, "countdown")
        return self._moment(options, "eta") if seconds is None else self.now + seconds

    def _moment(self, options: Mapping[str, Any], name: str) -> float | None:
        value = options.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self.now + value
        if isinstance(value, Mapping):  # kombu's mark of a datetime
            value = value.get("__value__")
        return moment(value, name)


def check_followers(body: TaskBody) -> None:
    """See that what follows a task can be sent: before the task runs.

    Raises:
        DecodeError: a signature makes no sense.
    """
    if body.callbacks or body.errbacks or body.chain:
        ended = Ended(TaskHeaders("", "", ""), body, 0.0)
        ended.after_success(None)
        ended.after_failure()


def _queue(options: Mapping[str, Any]) -> str | None:
    queue = text_of(options, "queue") or text_of(options, "routing_key")
    if queue is not None and (queue.startswith(RESERVED) or len(queue.encode()) > MOST_TEXT):
        raise DecodeError("the option 'queue' of a signature is not the name of a queue for tasks")
    return queue


def _number(options: Mapping[str, Any], name: str) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(f"the option {name!r} of a signature is not a number")
    return value


def _whole(options: Mapping[str, Any], name: str, highest: int) -> int | None:
    value = options.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0 or (highest and value > highest):
        raise DecodeError(f"the option {name!r} of a signature is not a number that it can have")
    return value


def _table(options: Mapping[str, Any], name: str) -> Mapping[str, FieldValue]:
    value = options.get(name)
    return value if isinstance(value, Mapping) else {}


def _stamps(options: Mapping[str, Any]) -> Mapping[str, FieldValue]:
    names = options.get("stamped_headers")
    if not isinstance(names, list):
        return {}
    return {n: options[n] for n in names if isinstance(n, str) and options.get(n) is not None}


def _linked(options: Mapping[str, Any]) -> dict[str, Any]:
    """What follows a call that follows: checked when it was read."""
    found: dict[str, Any] = {}
    for option, name in (("link", "callbacks"), ("link_error", "errbacks")):
        given = options.get(option)
        if given:
            found[name] = [given] if isinstance(given, dict) else given
    return found

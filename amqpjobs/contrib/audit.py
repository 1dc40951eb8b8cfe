"""An audit trail: a log line when a run starts and one when it ends, with who asked for it.

Changes when the lines say something else.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.durable.suspension import is_suspension
from amqpjobs.jobs.run_context import RunContext, of_this_run
from amqpjobs.jobs.verdicts import Reject, RetryAfter, Snooze

log = logging.getLogger("amqpjobs.audit")

REDACTED: Final = "[redacted]"
"""In place of the value of an argument."""

NOT_READ: Final = "[not read]"
"""In place of all arguments of a job in quarantine: reading them may be what ends its worker."""

SUSPENDED: Final = "suspended"

LONGEST = 200
"""Characters of a value in a line."""


class Audit:
    """Processing middleware: writes ``job started`` and ``job ended`` to the logger
    ``amqpjobs.audit``, both at INFO, with the keys of the job and those below.

    ``who`` has the chosen headers of the message, and the AMQP properties ``app_id`` and
    ``user_id``, of which RabbitMQ checks the second. ``arguments`` has the name of each argument,
    and its value if that is chosen. ``ended`` is ``done``, ``failed``, ``retrying``, ``rejected``,
    ``snoozed``, ``suspended`` (a durable job that waits, and goes on in another run) or
    ``interrupted``, ``seconds`` how long the run took, ``error`` the class of what it raised.

    Args:
        headers: names of headers of the message to log.
        arguments: names of parameters whose values are logged; all others are redacted.

    Example:
        >>> from amqpjobs.contrib.audit import Audit
        >>> audited = App("shop", processing=[Audit(headers=["tenant"], arguments=["order_id"])])
    """

    def __init__(self, *, headers: Collection[str] = (), arguments: Collection[str] = ()) -> None:
        if isinstance(headers, str) or isinstance(arguments, str):
            raise ConfigurationError("Audit: headers and arguments are lists of names")
        self._headers = tuple(headers)
        self._shown = frozenset(arguments)

    def __repr__(self) -> str:
        return f"<Audit: headers {self._headers}, arguments {sorted(self._shown)}>"

    async def __call__(
        self, call_next: Callable[[Context], Awaitable[object]], context: Context
    ) -> object:
        """See `amqpjobs.jobs.middleware.Processing`."""
        run = of_this_run(context)
        keys = {**run.log_keys(), "who": self._who(run), "arguments": self._arguments(run)}
        log.info("job started", extra=keys)
        started, error, result = time.monotonic(), None, None
        try:
            result = await call_next(context)
        except BaseException as raised:
            error = raised
            raise
        finally:
            ended: dict[str, object] = {
                **keys,
                "ended": ending_of(context, error if error is not None else result),
                "seconds": round(time.monotonic() - started, 3),
            }
            if error is not None and ended["ended"] != SUSPENDED:
                ended["error"] = type(error).__qualname__
            log.info("job ended", extra=ended)
            error = None  # its traceback leads back to this frame
        return result

    def _who(self, run: RunContext) -> dict[str, str]:
        try:
            message = run.message
        except DecodeError:
            return {}
        said = {name: message.headers.get(name) for name in self._headers}
        said |= {"app_id": message.app_id, "user_id": message.user_id}
        return {name: str(value)[:LONGEST] for name, value in said.items() if value is not None}

    def _arguments(self, run: RunContext) -> dict[str, object] | str:
        if not run.given.validated:
            return NOT_READ
        return {
            name: _shown(value) if name in self._shown else REDACTED
            for name, value in run.arguments.items()
        }


def ending_of(context: Context, end: object) -> str:
    """In a word: how a run ends that has returned or raised this."""
    match end:
        case Reject():
            return "rejected"
        case RetryAfter():
            return "retrying" if context.would_retry(end) else "failed"
        case Snooze():
            return "snoozed"
        case Exception():
            return "retrying" if context.would_retry(end) else "failed"
        case BaseException():
            return SUSPENDED if is_suspension(end) else "interrupted"
        case _:
            return "done"


def _shown(value: Any) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:LONGEST]

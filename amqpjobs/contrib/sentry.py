"""Sentry: what a job was doing, with the one event of a job that has failed for good.

Changes when Sentry is told something else.
"""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.hints import install
from amqpjobs.jobs.verdicts import Reject


class Sentry:
    """Processing middleware for the Sentry SDK, from version 2 (https://docs.sentry.io/platforms/python/).

    Each run has a scope of its own: tags ``amqpjobs.job`` and ``amqpjobs.queue``, a context
    ``amqpjobs``, breadcrumbs of this run alone, and the job as the name of the transaction. An
    error is sent when no retry follows: one event for a job, not one for each run.

    Sentry's integration of logging, which is on by default, sends the line of a failed job as well;
    the SDK drops that as a duplicate. It is what sends poison, undecodable and rejected jobs, which
    never get to a handler or raise no error.

    Call ``sentry_sdk.init(...)`` where the program starts.

    Raises:
        ConfigurationError: the SDK is not installed, or older.

    Example:
        >>> from amqpjobs.contrib.sentry import Sentry
        >>> watched = App("shop", processing=[Sentry()])
    """

    def __init__(self) -> None:
        try:
            self._sdk: Any = import_module("sentry_sdk")
        except ModuleNotFoundError as error:
            if error.name != "sentry_sdk":
                raise
            raise ConfigurationError(f"Sentry needs its SDK: {install('sentry-sdk>=2')}") from error
        if not hasattr(self._sdk, "isolation_scope"):
            raise ConfigurationError(
                f"Sentry needs version 2 of its SDK: {install('sentry-sdk>=2')}"
            )

    def __repr__(self) -> str:
        return "<Sentry>"

    async def __call__(
        self, call_next: Callable[[Context], Awaitable[object]], context: Context
    ) -> object:
        """See `amqpjobs.jobs.middleware.Processing`."""
        with self._sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()  # of whatever else this process has done
            scope.set_transaction_name(context.job, source="task")
            scope.set_tag("amqpjobs.job", context.job)
            scope.set_tag("amqpjobs.queue", context.queue)
            scope.set_context("amqpjobs", _facts(context))
            try:
                return await call_next(context)
            except Exception as error:
                # A `Reject` is a decision, not an error.
                if not isinstance(error, Reject) and not context.would_retry(error):
                    self._sdk.capture_exception(error)
                raise


def _facts(context: Context) -> dict[str, object]:
    return {
        "job": context.job,
        "job_id": context.job_id,
        "queue": context.queue,
        "attempt": context.attempt,
        "epoch": context.epoch,
        "trace_id": context.trace_id,
    }

"""Exceptions as Celery's results have them. Changes when Celery raises them otherwise."""

from pydantic_core import PydanticSerializationError, from_json, to_json

from amqpjobs.contrib.celery.results import Raised
from amqpjobs.jobs.exceptions import class_name
from amqpjobs.jobs.message.envelope import EXPIRED
from amqpjobs.jobs.message.failure import Failure

OF_CELERY = "celery.exceptions"

BUILTINS = "builtins"


def raised_of(failure: Failure, error: BaseException | None) -> Raised:
    """Why a job has failed, as the caller's `AsyncResult.get` raises it: by the class that the
    caller's process knows under that name, else by one that Celery makes up.

    Args:
        failure: what the dead letter says.
        error: the exception, if it was raised in this process.
    """
    name = failure.exception
    if name is None:
        return Raised("Reject", [failure.message], OF_CELERY)
    if error is not None and class_name(type(error)) == name:
        return Raised(type(error).__qualname__, _arguments(error), type(error).__module__)
    module, _, kind = name.rpartition(".")  # of a process of its own: its text is what is known
    return Raised(kind, [failure.message], module or BUILTINS)


def _arguments(error: BaseException) -> list[object]:
    """What an exception is made of again, if JSON can hold that."""
    try:
        made: list[object] = from_json(to_json(list(error.args)))
    except (PydanticSerializationError, ValueError, RecursionError):
        return [str(error)[:1000]]
    return made


def revoked(word: str) -> Raised:
    """A task that was not run, or not to its end: it has expired, or was cancelled."""
    return Raised("TaskRevokedError", ["expired" if word == EXPIRED else "revoked"], OF_CELERY)

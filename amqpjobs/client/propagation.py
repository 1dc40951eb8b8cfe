"""Headers that a job passes on to what it enqueues. Changes when what is passed on does."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.message import Message, with_headers
from amqpjobs.jobs.message.own_headers import HeaderValue, OwnHeaders, propagated
from amqpjobs.jobs.run_context import current_context

Propagate: TypeAlias = Callable[[Message[Any]], Message[Any]]


def propagate_of(names: tuple[str, ...] | None) -> Propagate | None:
    """What puts the headers of these names onto each message that a job enqueues; None for none."""
    return partial(_propagate, names) if names is not None else None


def propagated_headers(names: tuple[str, ...], own: Mapping[str, HeaderValue]) -> OwnHeaders | None:
    """The headers of an event that a job publishes, with some of the job's; None if no job runs
    here, or nothing comes to its own.

    Raises:
        ConfigurationError: they are too large together.
    """
    context = current_context.get()
    if context is None:
        return None
    try:
        return propagated(context.headers, names, own)
    except DecodeError:
        return None


def _propagate(names: tuple[str, ...], message: Message[Any]) -> Message[Any]:
    """The message with the headers of the job that runs here, if one does.

    Raises:
        ConfigurationError: they are too large together with its own.
    """
    context = current_context.get()
    if context is None:
        return message
    try:
        headers = context.headers
    except DecodeError:  # of a message of another program, which the job runs with all the same
        return message
    changed = propagated(headers, names, message.options.headers)
    return message if changed is None else with_headers(message, changed)

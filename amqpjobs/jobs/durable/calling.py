"""The types of what a durable job may call: a function, another job, or a message of one.

Changes when a durable job may call something else.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from amqpjobs.jobs.message.message import Message

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Callee(Protocol[P, R_co]):
    """The part of a `Job` that another job uses to call it."""

    @property
    def name(self) -> str:
        """The name of the job."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function of the job here."""
        ...

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R_co]:
        """A message that calls the job."""
        ...


async def called(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call the function of a step. A plain ``def`` runs in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    # Here, so that `import amqpjobs` does not import it.
    from anyio import to_thread

    call = partial(function, *args, **kwargs)
    result = await to_thread.run_sync(call, abandon_on_cancel=False)
    return await result if inspect.isawaitable(result) else result

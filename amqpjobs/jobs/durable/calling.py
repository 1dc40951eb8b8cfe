"""What a durable job may call: another job, or a call of one with its arguments.

Changes when it may call something else.
"""

from typing import Any, ParamSpec, Protocol, TypeVar

from amqpjobs.jobs.message.message import Message

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Callee(Protocol[P, R_co]):
    """A job, as far as another job calls it: `Job` is one."""

    @property
    def name(self) -> str:
        """Of the job."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """A plain call."""
        ...

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R_co]:
        """A call of it, as a value."""
        ...

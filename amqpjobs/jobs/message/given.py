"""The arguments of one run, as processing middleware sees and changes them.

Changes when middleware may do something else with arguments.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    # It imports pydantic, which takes longer than we do.
    from amqpjobs.jobs.message.arguments import Arguments, Payload


class Given:
    """The arguments of a run that has middleware. Nothing is done that no middleware asks for.

    Args:
        payload: the parameters of the job.
        body: the arguments as they came.
        loaded: the same, validated; None where nothing has validated them yet.
    """

    def __init__(self, payload: "Payload", body: bytes, loaded: "Arguments | None") -> None:
        self._payload = payload
        self._body = body
        self._loaded = loaded

    def __repr__(self) -> str:
        return f"<Given: the arguments of {self._payload.job}>"

    @property
    def validated(self) -> bool:
        """Whether the arguments were validated here; in quarantine they were not."""
        return self._loaded is not None

    @cached_property
    def by_name(self) -> dict[str, Any]:
        """The validated arguments, for middleware to read and change.

        Raises:
            DecodeError: the body does not fit the job.
        """
        if self._loaded is None:
            self._loaded = self._payload.load(self._body)
        return self._payload.by_name(self._loaded)

    @property
    def arguments(self) -> "Arguments":
        """What the handler is called with.

        Raises:
            ConfigurationError: middleware has added or removed a parameter.
            DecodeError: the body does not fit the job.
        """
        if "by_name" in self.__dict__:
            return self._payload.spread(self._checked(self.by_name))
        if self._loaded is None:
            self._loaded = self._payload.load(self._body)
        return self._loaded

    @property
    def body(self) -> bytes:
        """The arguments for a handler in another process, which validates them again: as they came,
        unless middleware has changed them.

        Raises:
            ConfigurationError: middleware has added or removed a parameter.
            InvalidArguments: what it has put there does not fit.
        """
        if "by_name" not in self.__dict__:
            return self._body
        now = self._checked(self.by_name)
        # Not kept from before: middleware may have changed the objects themselves.
        before = self._payload.by_name(self._payload.load(self._body))
        try:
            if before == now:
                return self._body
        except Exception:  # noqa: BLE001, S110 - arrays compare to no bool: taken for changed
            pass
        args, kwargs = self._payload.spread(now)
        return self._payload.dump(args, kwargs)

    def _checked(self, now: dict[str, Any]) -> dict[str, Any]:
        payload = self._payload
        unknown = [name for name in now if name not in payload.names]
        missing = [name for name in payload.required if name not in now]
        for problem, names in (("has no parameter", unknown), ("lacks its parameter", missing)):
            if names:
                raise ConfigurationError(
                    f"a processing middleware changed ctx.arguments: {payload.job} {problem} "
                    f"{names[0]!r}; it takes: {', '.join(payload.names) or 'none'}"
                )
        return now

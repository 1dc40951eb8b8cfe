"""A webhook of an app: which job a signed request becomes. Pure: no HTTP in it.

Changes when there is more to say about what a request becomes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.bodies import Bytes, Text, format_name
from amqpjobs.jobs.webhook import SIGNED, TOKEN, Signing

_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})


@dataclass(frozen=True, slots=True)
class Hook:
    """A job that is enqueued by a signed request to ``/hooks/{name}``; the body is its argument.

    Attributes:
        name: in the path; small letters, digits, ``-`` and ``_``.
        job: what is enqueued.
        signing: how its sender signs.
        headers: of the job's parameters, those whose values are headers of the request.
        events: what becomes a job; empty for everything.

    Raises:
        ConfigurationError: a name that cannot be one, of the hook or of a header; events of a
            sender that does not name them.
    """

    name: str
    job: Definition
    signing: Signing = SIGNED
    headers: Mapping[str, str] = field(default_factory=dict)
    events: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", self.name):
            raise ConfigurationError(
                f"hook {self.name!r}: a name is small letters, digits, '-' and '_', up to 64"
            )
        for parameter, header in self.headers.items():
            if TOKEN.fullmatch(header) is None:
                raise self.fail(
                    f"{header!r}, for the parameter {parameter!r}, cannot be the name of a header"
                )
        if self.events and not self.signing.has_events:
            raise self.fail(
                "its signing does not say where the event is named: give Signing(event=...) or "
                "Signing(event_key=...), or leave events=... away"
            )

    @property
    def variable(self) -> str:
        """The environment variable with its secret."""
        return f"AMQPJOBS_HOOK_{self.name.upper().replace('-', '_')}_SECRET"

    @property
    def body(self) -> str | None:
        """The parameter whose value is the body, beside headers; None where the body has all."""
        if not self.headers:
            return None
        left = [name for name in self.job.payload.names if name not in self.headers]
        return left[0] if left else None

    def check(self) -> None:
        """Whether a request can fit the job's parameters.

        Raises:
            ConfigurationError: none can.
        """
        payload = self.job.payload
        names = payload.names
        if isinstance(self.job.body, Bytes | Text):
            raise self.fail(
                f"a request becomes JSON, and the job has body={format_name(self.job.body)}: leave "
                "that out, or give it body=MsgPack"
            )
        if not names:
            raise self.fail("the job takes no arguments, and the body of a request is one")
        for parameter in self.headers:
            if parameter not in names:
                raise self.fail(
                    f"the job has no parameter {parameter!r}; it has: {', '.join(names)}"
                )
            if payload.kind_of(parameter) in ("object", "array"):
                raise self.fail(f"a header is a text, which {parameter!r} does not take")
        left = [name for name in names if name not in self.headers]
        if self.headers and len(left) != 1:
            raise self.fail(
                "besides those of headers the job has one parameter, for the body; it has: "
                + (", ".join(left) or "none")
            )
        if self.signing.objects and len(left) == 1:
            kind = payload.kind_of(left[0])
            if kind in _SCALARS or kind == "array":
                raise self.fail(
                    f"its sender sends JSON objects, and {left[0]!r} takes a JSON {kind}: give it "
                    "a BaseModel, a TypedDict or a dict"
                )

    def fail(self, words: str) -> ConfigurationError:
        """The error for something that is wrong with it."""
        return ConfigurationError(f"hook {self.name!r} of job {self.job.name!r}: {words}")

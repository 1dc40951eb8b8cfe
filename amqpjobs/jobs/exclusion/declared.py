"""What a job says about who may run at once, checked against its parameters.

Changes when a job may say something else about it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol, get_args

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.exclusion.keys import Key, Parameters, several
from amqpjobs.jobs.exclusion.limit import GivenLimits, Limit
from amqpjobs.jobs.exclusion.unique import Debounce, Unique
from amqpjobs.jobs.hints import install


@dataclass(frozen=True, slots=True)
class Rules:
    """What ``limit=``, ``unique=`` and ``debounce=`` of a job were given."""

    limit: GivenLimits = None
    unique: Unique | None = None
    debounce: Debounce | None = None

    @property
    def deduplicates(self) -> bool:
        """Whether a call may be a job that is there already."""
        return self.unique is not None or self.debounce is not None


NO_RULES = Rules()


class Declaring(Protocol):
    """What is asked of a job: a `Definition`."""

    name: str
    rules: Rules
    cancellable: bool
    at_most_once: bool

    @property
    def hints(self) -> dict[str, Any]:
        """The annotation of each parameter."""
        ...

    @property
    def payload(self) -> Any:
        """Its parameters that travel."""
        ...

    @property
    def batch(self) -> Any:
        """Whether it runs many in one call."""
        ...

    @property
    def schedules(self) -> Any:
        """When it is sent by itself."""
        ...

    def fail(self, problem: str) -> ConfigurationError:
        """An error that names it."""
        ...


class Bound(NamedTuple):
    """A limit of a job.

    Attributes:
        limit: as it was declared.
        parameter: in whose annotation; None for one of the job.
        key: makes the key; None for a limit of the whole job.
    """

    limit: Limit
    parameter: str | None
    key: Key | None

    def scope(self, job: str) -> str:
        """What its keys begin with, for a job of this name."""
        if self.limit.group is not None:
            return self.limit.group
        return job if self.parameter is None else f"{job}.{self.parameter}"

    def text(self, job: str, arguments: Mapping[str, Any]) -> str:
        """The key of a call, such as ``sync.customer=7``."""
        scope = self.scope(job)
        return scope if self.key is None else f"{scope}={self.key.of(arguments)}"

    def names(self, job: str) -> tuple[str, ...]:
        """By which `Context.fence` finds it."""
        found = (self.limit.group, self.parameter, None if self.parameter else job)
        return tuple(name for name in found if name is not None)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What a job says about who may run at once.

    Attributes:
        limits: of the job and its parameters.
        unique, debounce: as they were declared.
        key: makes the key of one of the two.
    """

    limits: tuple[Bound, ...] = ()
    unique: Unique | None = None
    debounce: Debounce | None = None
    key: Key | None = None

    @property
    def claims(self) -> bool:
        """Whether a job of it holds a claim while it waits or runs."""
        return self.unique is not None or (self.debounce is not None and self.debounce.last)


def exclusion_of(job: Declaring) -> Exclusion | None:
    """What a job says; None if it says nothing.

    Raises:
        ConfigurationError: what cannot be, naming the job and the fix.
    """
    rules, fail = job.rules, job.fail
    limits = _limits_of(job)
    if not limits and rules.unique is None and rules.debounce is None:
        return None
    _check_kinds(rules, fail)
    _check_company(job, bool(limits))
    if find_spec("sqlalchemy") is None:
        raise fail(f"{_named(rules)} needs the store, which needs: {install('amqpjobs[sql]')}")
    once = rules.unique or rules.debounce
    what = "unique" if rules.unique is not None else "debounce"
    key = None if once is None else Key(job.payload, once.key, what, fail)
    return Exclusion(limits, rules.unique, rules.debounce, key)


def _named(rules: Rules) -> str:
    if rules.unique is not None:
        return "unique="
    return "limit=" if rules.debounce is None else "debounce="


def _limits_of(job: Declaring) -> tuple[Bound, ...]:
    given = [] if job.rules.limit is None else several(job.rules.limit, Limit)
    for limit in given:
        if not isinstance(limit, Limit):
            raise job.fail(f"limit= is a Limit(...), such as Limit(20), or a list, not {limit!r}")
    found = [Bound(limit, None, _key(job.payload, limit, job.fail)) for limit in given]
    for name, hint in job.hints.items():
        found += [_of_parameter(job, name, each) for each in get_args(hint) if _is_limit(each)]
    scopes = [bound.scope(job.name) for bound in found]
    for bound, scope in zip(found, scopes, strict=True):
        if scopes.count(scope) > 1:
            raise job.fail(
                f"it has several limits that count the same ({scope!r}): keep the smallest, or "
                f"give one of them a group= of its own, such as {bound.limit!r}"
            )
    return tuple(found)


def _is_limit(given: object) -> bool:
    return isinstance(given, Limit) or given is Limit


def _key(
    parameters: Parameters, limit: Limit, fail: Callable[[str], ConfigurationError]
) -> Key | None:
    return None if limit.key is None else Key(parameters, limit.key, "limit", fail)


def _of_parameter(job: Declaring, name: str, limit: Any) -> Bound:
    if not isinstance(limit, Limit):
        raise job.fail(f"parameter {name!r}: write Limit(1), with the number that may run at once")
    if limit.key is not None:
        raise job.fail(
            f"parameter {name!r}: the key of its limit is its value. For another key write "
            "limit=Limit(..., key=...) of the job"
        )
    if name == "return" or name not in job.payload.names:
        raise job.fail(
            f"parameter {name!r} has a limit, and is none that a caller gives: its value is no key"
        )
    return Bound(limit, name, Key(job.payload, name, "limit", job.fail))


def _check_kinds(rules: Rules, fail: Callable[[str], ConfigurationError]) -> None:
    if rules.unique is not None and not isinstance(rules.unique, Unique):
        raise fail(f'unique= is a Unique(...), such as Unique(key="order"), not {rules.unique!r}')
    if rules.debounce is not None and not isinstance(rules.debounce, Debounce):
        raise fail(f"debounce= is a Debounce(...), such as Debounce(5), not {rules.debounce!r}")
    if rules.unique is not None and rules.debounce is not None:
        raise fail("a debounce is unique while it waits: leave unique= or debounce= out")


def _check_company(job: Declaring, limited: bool) -> None:
    rules, fail = job.rules, job.fail
    if job.at_most_once:
        raise fail(
            "what waits in the store may be sent twice when a process dies, and at_most_once=True "
            f"promises one run: leave one of {_named(rules)} and at_most_once out"
        )
    if job.batch is not None and limited:
        raise fail("a batch runs jobs of many keys in one call: leave batch= or the limit out")
    if rules.debounce is not None and job.schedules:
        raise fail("a schedule sends it at its times: leave schedule= or debounce= out")
    given = [] if rules.limit is None else several(rules.limit, Limit)
    given += [each for hint in job.hints.values() for each in get_args(hint) if _is_limit(each)]
    if any(limit.when_busy == "replace" for limit in given) and not job.cancellable:
        raise fail(
            'when_busy="replace" cancels the run that is under way: declare the job with '
            "cancellable=True"
        )

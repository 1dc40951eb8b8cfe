"""The annotations of a handler, as they are at run time. Changes when Python's annotations do."""

from collections.abc import Callable
from typing import Any, Union, get_args, get_type_hints

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.verdicts import Verdict


def hints_of(function: Callable[..., Any], job: str) -> dict[str, Any]:
    """The annotations of a handler, resolved.

    Raises:
        ConfigurationError: a parameter without one, or a name that cannot be resolved.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"job {job!r}: the annotation {error.name!r} cannot be resolved at run time; import it "
            "outside of `if TYPE_CHECKING:` and at the top of the module"
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise ConfigurationError(
            f"job {job!r}: an annotation cannot be evaluated at run time: {error}"
        ) from error
    return hints


def without_verdicts(hint: Any) -> Any:
    """The annotation of a result: a verdict that may be returned is no result."""
    given = get_args(hint)
    kinds = [kind for kind in given if not (isinstance(kind, type) and issubclass(kind, Verdict))]
    return Union[tuple(kinds)] if kinds and len(kinds) < len(given) else hint  # noqa: UP007

"""What to write instead: for names of other frameworks, mistyped names, calls that cannot work, and
what is not installed.

Changes when another mistake is common enough for a hint.
"""

import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

from amqpjobs.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_ELSEWHERE: Final = {
    "apply_async": "with_options(...).later(...)",
    "defer": "later(...)",
    "delay": "later(...)",
    "enqueue": "later(...)",
    "kiq": "later(...)",
    "s": "message(...)",
    "send": "later(...)",
    "send_with_options": "with_options(...).later(...)",
}
"""What a job has in place of what jobs of Celery, Dramatiq, taskiq and others have."""


def no_attribute(thing: object, name: str) -> AttributeError:
    """The error for an attribute that a job does not have, as Python words it."""
    words = f"{type(thing).__name__!r} object has no attribute {name!r}"
    if name in _ELSEWHERE:
        words += f"; write `await job.{_ELSEWHERE[name]}`"
    return AttributeError(words, name=name, obj=thing)


def with_parentheses(decorator: F) -> F:
    """Have ``@app.job`` without parentheses, or without a queue, say what to write. There is no
    default queue: where a job waits is declared."""

    @wraps(decorator)
    def called(self: object, *misplaced: object, **options: object) -> object:
        if misplaced or "queue" not in options:
            queue = misplaced[0] if misplaced and isinstance(misplaced[0], str) else "name"
            raise ConfigurationError(f"a job needs a queue: write `@app.job(queue={queue!r})`")
        return decorator(self, **options)

    return called  # type: ignore[return-value]


def install(requirement: str) -> str:
    """The command that installs something into the environment of this process, for people.

    An extra is asked for by name, as ``amqpjobs[web]``, wherever amqpjobs itself came from: to pip
    and uv the installed one fulfils the requirement, be it from a checkout or from a wheel that is
    gone, and they fetch what the extra adds.

    Args:
        requirement: as in a requirements file.
    """
    # Here: for mistakes only.
    from importlib.util import find_spec
    from shlex import quote
    from shutil import which

    python, found = sys.executable, which("pip")
    if find_spec("pip") is None and _installed_by_uv():
        # It takes the environment that is active, else the folder `.venv`.
        active = os.environ.get("VIRTUAL_ENV") or str(Path(".venv").absolute())
        options = "" if active == sys.prefix else f" --python {quote(python)}"
        return f"uv pip install{options} {quote(requirement)}"
    if found and Path(found).parent == Path(python).parent:
        return f"pip install {quote(requirement)}"
    return f"{quote(python)} -m pip install {quote(requirement)}"


def _installed_by_uv() -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return (distribution("amqpjobs").read_text("INSTALLER") or "").strip() == "uv"
    except PackageNotFoundError:  # it runs in a folder and is not installed
        return False


def did_you_mean(name: str, there: Iterable[str], prefix: str = "") -> str:
    """A question that names the nearest of these names, to put behind a message; else nothing.

    Args:
        name: what was written.
        there: what there is.
        prefix: what all of them begin with, which makes none of them nearer.
    """
    from difflib import get_close_matches  # here: for mistakes only

    names = [each.removeprefix(prefix) for each in there]
    near = get_close_matches(name.removeprefix(prefix), names, n=1)
    return f"; did you mean {prefix + near[0]!r}?" if near else ""

"""``amqpjobs shell``: a REPL with the app and its jobs loaded. Changes when the REPL does."""

import dataclasses
import sys
from collections.abc import Iterator
from inspect import signature
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from amqpjobs.cli.app_option import AppOption, UrlOption, load_app
from amqpjobs.cli.output import say
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.markers import is_injected

if TYPE_CHECKING:
    from amqpjobs.app import App


def shell(app: AppOption = None, url: UrlOption = None) -> None:
    """Open a REPL with the app and its jobs; `await` works there.

    It has `app`, and by their names the jobs and the classes of their arguments. It is IPython's
    where that is installed, else Python's own.
    """
    loaded = load_app(app, url=url, listens=True)
    names = names_of(loaded)
    say(f"amqpjobs: {loaded!r}; here: {', '.join(sorted(names))}")
    try:
        from IPython import start_ipython  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        start_ipython = None
    # Out of the `except` clause: each error at the prompt would be chained to this one.
    if start_ipython is not None:
        start_ipython(argv=["--no-banner"], user_ns=names)
        return
    from amqpjobs.cli.prompt import Prompt

    Prompt(names, loaded.close).run()


def names_of(app: "App") -> dict[str, Any]:
    """What the prompt knows: the app, its jobs, and the classes of their arguments."""
    names: dict[str, Any] = {"app": app}
    for definition in app.jobs.values():
        module = sys.modules.get(definition.function.__module__)
        name = definition.function.__qualname__.split(".")[0]
        found = getattr(module, name, None)
        if found is not None:
            names[name] = found
    for definition in app.jobs.values():
        for kind in classes_of(definition):
            names.setdefault(kind.__name__, kind)
    return names


def classes_of(definition: Definition) -> Iterator[type]:
    """The classes that the arguments of a job are made of, those of their fields included."""
    seen: set[type] = set()
    for name, parameter in signature(definition.function).parameters.items():
        hint = definition.hints.get(name)
        if hint is not Context and not is_injected(parameter, hint):
            yield from _classes_in(hint, seen)


def _classes_in(hint: Any, seen: set[type]) -> Iterator[type]:
    for argument in get_args(hint):
        yield from _classes_in(argument, seen)
    if not isinstance(hint, type) or hint.__module__ == "builtins" or hint in seen:
        return
    seen.add(hint)
    yield hint
    if dataclasses.is_dataclass(hint) or hasattr(hint, "model_fields"):
        for field in get_type_hints(hint, include_extras=True).values():
            yield from _classes_in(field, seen)

"""``amqpjobs shell``: a REPL with the app and its jobs loaded. Changes when the REPL does."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from amqpjobs.cli.app_option import AppOption, UrlOption, load_app
from amqpjobs.cli.output import say

if TYPE_CHECKING:
    from amqpjobs.app import App


def shell(app: AppOption = None, url: UrlOption = None) -> None:
    """Open a REPL with `app`, its jobs and their classes by name; `await` works at the prompt."""
    loaded = load_app(app, url=url)
    names = names_of(loaded)
    say(f"amqpjobs: {loaded!r}; here: {', '.join(sorted(names))}")
    try:
        import IPython  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        _plain(loaded, names)
    else:
        IPython.start_ipython(argv=["--no-banner"], user_ns=names)


def names_of(app: "App") -> dict[str, Any]:
    """What the prompt knows."""
    names: dict[str, Any] = {"app": app}
    for definition in app.jobs.values():
        module = sys.modules.get(definition.function.__module__)
        name = definition.function.__qualname__.split(".")[0]
        found = getattr(module, name, None)
        names[name] = found
    return {k: v for k, v in names.items() if v is not None}


def _plain(app: "App", names: dict[str, Any]) -> None:
    """Python's own prompt with top-level `await`, on one event loop for the whole session."""
    import ast
    import code
    import inspect
    from types import CodeType, FunctionType

    runner = asyncio.Runner()

    class Prompt(code.InteractiveConsole):
        def runcode(self, compiled: CodeType) -> None:
            try:
                result = FunctionType(compiled, self.locals)()
                if inspect.iscoroutine(result):
                    runner.run(result)
            except SystemExit:
                raise
            except BaseException:  # noqa: BLE001 - shown to the person at the prompt
                self.showtraceback()

    prompt = Prompt({**names, "__name__": "__console__"})
    prompt.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with runner:
        try:
            prompt.interact(banner="", exitmsg="")
        finally:
            runner.run(app.close())

"""Supplies the dependencies of a handler, and the Context wherever one of them takes it.

FastDepends fills the parameters of dependencies by name, from those of the handler. Changes when
dependencies are found or filled in a different way.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.handlers import is_async
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.run_context import current_context, plain_context


def injected(handler: Callable[..., Any], job: str) -> Callable[..., Any]:
    """The handler with its dependencies supplied.

    Args:
        handler: an ``async def``, or a plain one.
        job: its name, for the Context of plain calls.

    Raises:
        ConfigurationError: a dependency that cannot be supplied, with its name.
    """
    from fast_depends import inject

    models: list[Any] = []

    def seen(model: Any) -> Any:
        models.append(model)
        return model

    try:
        filled: Callable[..., Any] = inject(handler, cast=False, wrap_model=seen)
    except AssertionError as error:
        raise ConfigurationError(str(error)) from error
    names = _names_of_context(models[0])
    return _with_context(filled, names, job) if names else filled


def _with_context(filled: Callable[..., Any], names: set[str], job: str) -> Callable[..., Any]:
    """Give the Context by all of these names; FastDepends drops a name where nobody asks for it."""

    def given() -> dict[str, Any]:
        return dict.fromkeys(names, current_context.get() or plain_context(job, new_job_id()))

    if is_async(filled):

        @wraps(filled)
        async def with_context(*args: Any, **kwargs: Any) -> Any:
            return await filled(*args, **kwargs, **given())

        return with_context

    @wraps(filled)
    def with_context_now(*args: Any, **kwargs: Any) -> Any:
        return filled(*args, **kwargs, **given())

    return with_context_now


def _names_of_context(model: Any) -> set[str]:
    """The names by which dependencies take the Context, and the handler does not.

    Raises:
        ConfigurationError: a parameter of a dependency that nothing fills.
    """
    own = {item.field_name: item.field_type for item in model.params}
    names: set[str] = set()
    found = list(_dependencies(model))
    # What a dependency returned is handed on by its name, too.
    filled = own.keys() | {name for each in (model, *found) for name in each.dependencies}
    for dependency in found:
        for item in dependency.params:
            name, place = item.field_name, f"dependency {dependency.call_name!r}"
            if item.field_type is Context:
                if own.get(name, Context) is not Context:
                    raise ConfigurationError(
                        f"{place} takes the Context as {name!r}, which is an argument of the job: "
                        "give one of the two another name"
                    )
                names.add(name)
            elif item.default_value is ... and name not in filled:
                raise ConfigurationError(
                    f"{place}: nothing fills its parameter {name!r}: annotate it with Context, "
                    "mark it with Depends, give it a default, or name it as an argument of the job"
                )
    return names - own.keys()


def _dependencies(model: Any) -> Iterator[Any]:
    """All that a model of FastDepends depends on, at any depth."""
    for key in (*model.dependencies.values(), *model.extra_dependencies):
        dependency = model.dependency_provider.get_dependant(key)
        yield dependency
        yield from _dependencies(dependency)

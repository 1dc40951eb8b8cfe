"""Finds the modules of jobs in a package. Changes when jobs are looked for elsewhere."""

import importlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pkgutil import iter_modules

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.registry import Registry
from amqpjobs.jobs.router import Router, may_be_included

JOBS = "jobs"
"""What modules of jobs are called."""


def routers_in(package: str, registry: Registry) -> list[Router]:
    """Import the modules of jobs in a package and its subpackages.

    Returns:
        The routers at their top level that are neither in another router nor in this app.

    Raises:
        ConfigurationError: there is no such package, or it has none.
        Exception: whatever an import raises.
    """
    names = list(_modules_in(package, _places_of(package)))
    if not names:
        raise ConfigurationError(
            f"autodiscover({package!r}): there is no module {package}.{JOBS}, and none of this "
            f"name in a subpackage: a file {JOBS}.py declares jobs there"
        )
    found: dict[int, Router] = {}
    for name in names:
        for thing in tuple(vars(importlib.import_module(name)).values()):
            if isinstance(thing, Router) and may_be_included(thing, registry):
                found[id(thing)] = thing
    return list(found.values())


def _places_of(package: str) -> Iterable[str]:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # its parent imports something that is not there
        spec = None
    if spec is None:
        raise ConfigurationError(f"autodiscover({package!r}): there is no package of this name")
    if spec.submodule_search_locations is None:
        raise ConfigurationError(
            f"autodiscover({package!r}): it is a module, not a package: import it"
        )
    return spec.submodule_search_locations


def _modules_in(package: str, places: Iterable[str]) -> Iterator[str]:
    """The names of modules of jobs. A subpackage that has none is not imported."""
    for found in iter_modules(places):
        name = f"{package}.{found.name}"
        if found.name == JOBS:
            yield name
        if found.ispkg:
            spec = found.module_finder.find_spec(found.name, None)
            if spec is not None and spec.submodule_search_locations is not None:
                yield from _modules_in(name, spec.submodule_search_locations)

"""``amqpjobs new NAME``: a project that works at once. Changes when what it begins with does.

What it begins with stands in the folder ``starter``, file by file.
"""

import keyword
import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from amqpjobs.cli.app_option import JsonOption
from amqpjobs.cli.output import print_json
from amqpjobs.cli.own_wheel import installed, is_from_an_index, write_wheel
from amqpjobs.errors import ConfigurationError

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

LONGEST_NAME = 60

TAKEN = frozenset({"amqpjobs", "test", "tests", "pytest"})
"""Names of packages that the project itself needs."""

WHEELS = "wheels"

HIDDEN = {"gitignore": ".gitignore", "dockerignore": ".dockerignore"}


def new(
    name: Annotated[
        str, typer.Argument(help="Of the project and its folder: small letters, digits, '-', '_'.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a project: an app with one job, a test, a Dockerfile.

    And RabbitMQ for Compose. It goes into a new folder here, and nothing that is there already is
    touched. An amqpjobs that is not from an index is put into its folder `wheels`, so that the
    project installs elsewhere.
    """
    package = package_of(name)
    folder = Path(name)
    made = write_project(folder, name, package)
    if as_json:
        print_json({"folder": str(folder.absolute()), "files": made})
        return
    sys.stdout.write(
        f"{name}/ has {len(made)} files: {', '.join(made)}\n\n"
        f"  cd {name}\n"
        "  python -m pytest                               # needs no RabbitMQ\n"
        "  amqpjobs broker                                # one for development, until Ctrl-C\n"
        f"  amqpjobs consume --app {package}.jobs:app\n"
        f"  python -m {package} Ada\n\n"
        "README.md says more.\n"
    )


def package_of(name: str) -> str:
    """The Python package of a project.

    Raises:
        ConfigurationError: a name that cannot be one.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"{name!r} is no name for a project: use small letters, digits, '-' and '_', up to "
            f"{LONGEST_NAME}, and begin with a letter, such as photo-album"
        )
    package = name.replace("-", "_")
    if package in TAKEN | sys.stdlib_module_names or keyword.iskeyword(package):
        raise ConfigurationError(
            f"{name!r} is no name for a project: Python has another {package!r}; try my-{name}"
        )
    return package


def write_project(folder: Path, name: str, package: str) -> list[str]:
    """Write the files, and return their paths within the folder.

    Raises:
        ConfigurationError: the folder is there already, or amqpjobs is not installed.
    """
    ours = installed()
    try:
        folder.mkdir()
    except FileExistsError:
        raise ConfigurationError(
            f"{str(folder)!r} is there already, and nothing in it is touched: take another name"
        ) from None
    made: list[str] = []
    if not is_from_an_index(ours):
        (folder / WHEELS).mkdir()
        made.append(f"{WHEELS}/{write_wheel(ours, folder / WHEELS)}")
    words = {"name": name, "package": package, "version": ours.version}
    words |= _words_on_the_wheel(*made)
    for path, source in _sources(files("amqpjobs.cli").joinpath("starter")):
        target = folder / path.replace("package/", f"{package}/", 1)
        target.parent.mkdir(exist_ok=True)
        # "x": whatever came into this folder meanwhile stays as it is.
        with target.open("x", encoding="utf-8") as file:
            file.write(Template(source.read_text("utf-8")).substitute(words))
        made.append(str(target.relative_to(folder)))
    return sorted(made)


def _words_on_the_wheel(wheel: str = "") -> dict[str, str]:
    """What the files say of it; nothing where amqpjobs comes from an index."""
    if not wheel:
        return dict.fromkeys(("wheel", "copy_wheels", "uv_source", "about_wheel"), "")
    return {
        "wheel": f"{wheel} ",
        "copy_wheels": f"\nCOPY {WHEELS} ./{WHEELS}",
        "uv_source": f'\n[tool.uv.sources]\namqpjobs = {{ path = "{wheel}" }}\n',
        "about_wheel": f"\n`{WHEELS}/` has the amqpjobs that made this project, since that one did "
        "not come from an index. Commit it. For\nanother version replace the file, and its name in "
        "`pyproject.toml`, `Dockerfile` and here.\n",
    }


def _sources(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".txt"):
            name = entry.name.removesuffix(".txt")
            found.append((prefix + HIDDEN.get(name, name), entry))
    return found

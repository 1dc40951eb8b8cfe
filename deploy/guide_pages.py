"""Write what `deploy/guide` builds: the pages, a reference from the code, the generator's settings.

Pages go as they are, without the code that only their test runs. Changes when the site has other
pages, or another generator.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import amqpjobs
import amqpjobs.testing
from amqpjobs import errors
from amqpjobs.broker import embedded
from amqpjobs.cli.guide import Entry, entries
from amqpjobs.cli.program import program_for
from amqpjobs.client.deadletters.selection import Selection
from amqpjobs.contrib.audit import Audit
from amqpjobs.contrib.sentry import Sentry
from amqpjobs.contrib.timeouts import Timeouts
from amqpjobs.settings import Settings
from amqpjobs.worker import Worker

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "amqpjobs/guide"

PAGES: dict[str, tuple[str, dict[str, object]]] = {
    "api": (
        "API",
        {
            name: getattr(amqpjobs, name)
            for name in amqpjobs.__all__
            if name not in ("INJECTED", "Depends", "__version__")
        }
        | {"Worker": Worker, "Selection": Selection}
        | {"Timeouts": Timeouts, "Sentry": Sentry, "Audit": Audit},
    ),
    "api-testing": (
        "Testing API",
        {name: getattr(amqpjobs.testing, name) for name in ("Testing", "Enqueued", "Ran", "Dead")}
        | {"Broker": embedded.Broker, "Faults": embedded.Faults},
    ),
    "api-errors": (
        "Errors",
        {
            name: kind
            for name, kind in vars(errors).items()
            if inspect.isclass(kind) and issubclass(kind, errors.AmqpJobsError)
        },
    ),
}


def write(folder: Path) -> None:
    """Everything that is built."""
    docs = folder / "docs"
    docs.mkdir(parents=True)
    for path in GUIDE.glob("*.md"):
        (docs / path.name).write_text(shown(path.read_text()))
    reference = docs / "reference"
    reference.mkdir()
    for name, (title, members) in PAGES.items():
        (reference / f"{name}.md").write_text(api_page(title, members))
    (reference / "settings.md").write_text(settings_page())
    (reference / "commands.md").write_text(commands_page())
    (docs / "guide.css").write_text(STYLE)
    (folder / "zensical.toml").write_text(configuration())


def shown(text: str) -> str:
    """A page without hidden code, and without what a fence says to the test."""
    text = re.sub(r"^<!--.*?-->\n*", "", text, flags=re.M | re.S)
    return re.sub(r"^( *```\w+) \w+$", r"\1", text, flags=re.M)


def api_page(title: str, members: dict[str, object]) -> str:
    """Names as users import them, from the docstrings where they are defined."""
    blocks = [f"# {title}\n\nFrom the docstrings of the code.\n"]
    for name, member in members.items():
        # A value, such as SIGNED, stands in the module of its class.
        home = member.__module__
        place = f"{home}.{getattr(member, '__qualname__', name)}"
        blocks.append(f"## {name}\n\n::: {place}\n    options:\n      heading_level: 3\n")
    return "\n".join(blocks)


def settings_page() -> str:
    """Every setting with its variables, default and meaning."""
    told = field_docstrings()
    rows = [
        f"| {variables(name, field)} | {default(field)} | {told[name]} |"
        for name, field in Settings.model_fields.items()
    ]
    head = (
        "# Settings\n\nEvery setting, from the code. A flag of a command comes before the "
        "environment, the environment before a secret file (`AMQPJOBS_SECRETS_DIR`, one file a "
        "setting), and that before the default. Durations are seconds, sizes bytes.\n\n"
        "| variable | default | |\n|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def field_docstrings() -> dict[str, str]:
    """The text below each field of the settings."""
    tree = ast.parse(inspect.getsource(Settings)).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101
    told: dict[str, str] = dict.fromkeys(Settings.model_fields, "")
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            told[field.target.id] = plain(str(text.value.value))
    return told


def variables(name: str, field: FieldInfo) -> str:
    """Of the environment."""
    alias = field.validation_alias
    names = getattr(alias, "choices", None) or [alias or f"AMQPJOBS_{name.upper()}"]
    return ", ".join(f"`{each}`" for each in names)


def default(field: FieldInfo) -> str:
    """As one would write it into the environment."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def plain(text: str) -> str:
    """A docstring's text in a cell of a table."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def commands_page() -> str:
    """Every command with its arguments and options."""
    head = (
        "# Commands\n\nEvery command of `amqpjobs`, from the code. Exit status: 0 done or drained, "
        "1 failed, 2 usage, 3 broker unreachable, 130 interrupted.\n"
    )
    parts = [head]
    for name, command in commands("amqpjobs", typer.main.get_command(program_for())):
        parts.append(f"## {name}\n\n{paragraphs(command.help)}\n\n{parameters(command)}")
    return "\n".join(parts)


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """All of them, by their whole names."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for each, found in sorted(command.commands.items()):
        yield from commands(f"{name} {each}", found)


def paragraphs(text: str | None) -> str:
    """A help text as Markdown."""
    return inspect.cleandoc(text or "").replace("``", "`").replace("<", "&lt;")


def parameters(command: Any) -> str:
    """A table of a command's arguments and options."""
    rows = []
    for each in command.params:
        if each.name in ("help", "install_completion", "show_completion"):
            continue
        names = each.opts + each.secondary_opts
        shown_names = ", ".join(f"`{n}`" for n in names) if each.opts[0].startswith("-") else ""
        value = "" if getattr(each, "is_flag", False) else f" `{metavar(each)}`"
        told = plain(getattr(each, "help", None) or "")
        variable = f" (`{each.envvar}`)" if isinstance(each.envvar, str) else ""
        rows.append(f"| {shown_names}{value} | {told}{variable} |")
    return "| option | |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def metavar(parameter: Any) -> str:
    """What stands for its value."""
    return parameter.metavar or parameter.name.upper()


def configuration() -> str:
    """Of Zensical, which reads TOML; JSON's texts and lists are TOML, too."""
    nav = [entry("index.md", "The guide"), *sections(list(entries()))]
    names = [*PAGES, "settings", "commands"]
    titles = [*(title for title, _ in PAGES.values()), "Settings", "Commands"]
    listed = ", ".join(
        entry(f"reference/{name}.md", title) for name, title in zip(names, titles, strict=True)
    )
    nav.insert(-1, f'{{"Reference" = [{listed}]}}')
    return TEMPLATE.format(nav=",\n  ".join(nav), root=json.dumps(str(ROOT)))


def sections(listed: list[Entry]) -> list[str]:
    """The pages as the index has them."""
    names = dict.fromkeys(each.section for each in listed)
    return [
        f"{{{json.dumps(name)} = ["
        + ", ".join(entry(f"{e.page}.md", e.title) for e in listed if e.section == name)
        + "]}"
        for name in names
    ]


def entry(path: str, title: str) -> str:
    """A page of the navigation."""
    return f"{{{json.dumps(title)} = {json.dumps(path)}}}"


STYLE = """/* Names in the first column of a table stay in one piece. */
.md-typeset td:first-child code { white-space: nowrap; }
"""

TEMPLATE = """[project]
site_name = "amqpjobs"
site_description = "Jobs on RabbitMQ for asyncio"
docs_dir = "docs"
site_dir = "site"
use_directory_urls = false
extra_css = ["guide.css"]
nav = [
  {nav}
]

[project.theme]
language = "en"
font = false
features = [
  "content.code.copy", "navigation.footer", "navigation.sections", "navigation.top",
  "search.highlight", "toc.follow",
]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Light"

[project.markdown_extensions.tables]
[project.markdown_extensions.attr_list]
[project.markdown_extensions.toc]
permalink = true
[project.markdown_extensions.pymdownx.highlight]
[project.markdown_extensions.pymdownx.superfences]

[project.plugins.search]
[project.plugins.mkdocstrings.handlers.python]
paths = [{root}]
[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
inherited_members = true
merge_init_into_class = true
members_order = "source"
separate_signature = true
show_root_heading = false
show_root_toc_entry = false
show_signature_annotations = true
show_source = false
"""

if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""Manifests as YAML that people review: in order, with what is said about them, nothing folded.

Changes when the form of the files does.
"""

import hashlib
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from amqpjobs.cli.deploy.manifests import Manifest, Octal
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install

try:
    import yaml
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"manifests are written by {error.name!r}, which is not installed: "
        f"{install('amqpjobs[deploy]')}; --json needs nothing"
    ) from error

WIDTH = 98

MARK = re.compile(r"# amqpjobs deploy render, sha256 ([0-9a-f]{64})\n")
"""The first line of a file that is made again: whoever edits the rest leaves the line behind."""

_PLAIN = re.compile(r"[A-Za-z./][A-Za-z0-9./_ -]*[A-Za-z0-9]|[A-Za-z]{2,}|[0-9]+(m|Mi|%)")
_WORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null"})


class _Dumper(yaml.SafeDumper):
    """Strings in quotes wherever a reader of YAML 1.1 or 1.2 could see anything else in them: to
    kubectl ``n`` is false, and ``1e3`` a number."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: labels stand where they are looked for."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists deeper than their key."""
        super().increase_indent(flow, False)


def _string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else '"'
    if text.endswith("\n") and text.isascii() and text.replace("\n", "").isprintable():
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _octal(dumper: _Dumper, number: Octal) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:int", f"0{number:o}")


_Dumper.add_representer(str, _string)
_Dumper.add_representer(Octal, _octal)


def text_of(manifests: Iterable[Manifest], *, theirs: bool = False) -> str:
    """The text of a file.

    Args:
        manifests: what is in it.
        theirs: whether it is written once, for a person to go on with; then it has no mark.
    """
    text = "---\n".join(_document(manifest) for manifest in manifests)
    return text if theirs else f"# amqpjobs deploy render, sha256 {_sum(text)}\n{text}"


def is_edited(text: str) -> bool:
    """Whether a file is not as it was written; true of files that were made by others."""
    mark = MARK.match(text)
    return mark is None or mark[1] != _sum(text[mark.end() :])


def _document(manifest: Manifest) -> str:
    lines = (_comment(block) for block in manifest.about.split("\n\n") if block)
    body = yaml.dump(
        manifest.body,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=False,
        width=float("inf"),
    )
    return "".join(lines) + body


def _comment(block: str) -> str:
    # A command stays on its line, to be copied.
    if block.startswith(("amqpjobs ", "kubectl ")):
        return textwrap.indent(block, "#   ") + "\n"
    filled = textwrap.fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)
    return textwrap.indent(filled, "# ") + "\n"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Writing the files, and leaving alone what a person has changed. Changes when that is told
apart otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from amqpjobs.cli.deploy.rendering import THEIRS, Files
from amqpjobs.cli.deploy.text import MARK, is_edited, text_of
from amqpjobs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the files, by their paths within the folder.

    Attributes:
        written: new, or not as they were.
        unchanged: as they were.
        kept: the example's, which is a person's own by now.
        left: made by an earlier call, and a part of nothing any more.
    """

    written: list[str]
    unchanged: list[str]
    kept: list[str]
    left: list[str]


def texts_of(files: Files) -> dict[str, str]:
    """The text of each file."""
    return {
        path: text_of(manifests, theirs=path.startswith(THEIRS))
        for path, manifests in files.items()
    }


def write(folder: Path, files: Files, *, force: bool = False) -> Written:
    """Write the files that are not as they should be.

    Args:
        folder: made if need be.
        force: overwrite what was edited, and the example, too.

    Raises:
        ConfigurationError: a file was edited, or made by others; then none is written.
    """
    texts = texts_of(files)
    before = {path: _read(folder / path) for path in texts}
    edited = [
        path
        for path, text in before.items()
        if text is not None and not path.startswith(THEIRS) and is_edited(text)
    ]
    if edited and not force:
        raise ConfigurationError(
            f"edited since they were written, or not made by this command: {', '.join(edited)}. "
            f"Nothing was written to {folder}: move the changes into an overlay, or give --force"
        )
    kept = [
        path
        for path, text in texts.items()
        if path.startswith(THEIRS) and before[path] not in (None, text) and not force
    ]
    changed = [path for path, text in texts.items() if before[path] != text and path not in kept]
    for path in changed:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(texts[path], encoding="utf-8")
    unchanged = [path for path in texts if path not in changed and path not in kept]
    return Written(changed, unchanged, kept, _left(folder, texts))


def _left(folder: Path, texts: Mapping[str, str]) -> list[str]:
    found = sorted(path for path in folder.rglob("*.yaml") if path.is_file())
    paths = {path: path.relative_to(folder).as_posix() for path in found}
    return [
        name
        for path, name in paths.items()
        if name not in texts and MARK.match(_read(path) or "") is not None
    ]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""  # none of ours

"""Run a page of the guide: its files are imported, its code and its commands are executed.

What a block means (the language of its fence, then the mode):

- ``python`` that begins with ``# name.py`` is written to that file and imported; a later block of
  the same name replaces it. A file ``test_*.py`` is run by pytest.
- other ``python`` is executed in one namespace for the page, with `await` at the top level. Once
  that namespace has an ``app``, it runs inside of ``async with app.testing() as t``, from the first
  statement that awaits; a block that calls ``.testing(`` itself runs outside of it. A block with
  ``.blocking(`` runs in a thread, as synchronous code does.
- ``python compile`` is compiled only.
- ``console``: what follows ``$ `` is run by bash in the page's folder (exported variables and the
  folder are kept for the next command); the lines below must appear in its output in that order,
  where ``...`` stands for what varies. ``&`` at the end: it goes on, its lines may come in
  any order and until the end of the page, and is stopped there. A command without lines below must
  succeed. Logs are readable ones, as on a terminal.
- ``sh``: its lines that begin with ``amqpjobs`` are parsed by the command line, and not run.
- ``toml``, ``yaml``, ``json`` (also a document a line), ``ini``: parsed.
- ``<!-- run`` up to ``-->``: a python block that readers do not see.

A page runs in a process of its own, made by a fork server that has imported amqpjobs already: what
it changes (modules, logging, metrics) changes no other page. Changes when a block means more.
"""

import ast
import asyncio
import configparser
import contextlib
import importlib
import inspect
import json
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, Final, Self

import yaml

import amqpjobs.testing  # noqa: F401 - imported once, by the fork server
from amqpjobs import App
from amqpjobs.broker.embedded import Broker

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "amqpjobs/guide"
INDEX: Final = GUIDE / "index.md"

COMMAND_TIMEOUT: Final = 30.0
"""Seconds for one command of a page, or for the expected lines of one that goes on."""
LIMITED: Final = ("timeout", "--kill-after=5", str(COMMAND_TIMEOUT))
"""Ends what a command has started, too."""

TIMED_OUT: Final = 124
PAGE_TIMEOUT: Final = 110.0
STOP_TIMEOUT: Final = 10.0
SOON: Final = 5.0
"""Seconds that the next command waits for the lines of one that goes on, if these do not come."""

FENCE: Final = re.compile(r"^( *)(```+)(.*)$")
FILE: Final = re.compile(r"# ((?:[\w-]+/)*\w+\.py)\n")
LINK: Final = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#{1,6} (.+?)\s*$", re.M)
ENTRY: Final = re.compile(r"^- \[([^\]]+)\]\(([\w-]+)\.md\): (.+)$", re.M)
ASSIGNED: Final = re.compile(r"[A-Za-z_]\w*=")
FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class BlockError(Exception):
    """A block of a page does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language, mode and text, and the line on which the text begins."""

    language: str
    mode: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is written to."""
        found = FILE.match(self.text)
        return found[1] if found and self.language == "python" else None

    @property
    def runs(self) -> bool:
        """Whether it needs a process and a broker."""
        return self.language == "console" or (self.language == "python" and self.mode != "compile")


@dataclass
class Page:
    """A page of the guide."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    prose: str = ""

    def __post_init__(self) -> None:
        kept: list[str] = []
        lines = self.path.read_text().splitlines()
        at = 0
        while at < len(lines):
            end = self._block(lines, at)
            if end is None:
                kept.append(lines[at])
                at += 1
            else:
                kept.extend([""] * (end - at))
                at = end
        self.prose = "\n".join(kept)

    def _block(self, lines: list[str], at: int) -> int | None:
        """Take the block that begins on this line; where it ends, None where none begins."""
        if lines[at].strip() == "<!-- run":
            end = _closing(self.path, lines, at, lambda line: line.strip() == "-->")
            self._add("python", "", lines, at + 1, end)
            return end + 1
        fence = FENCE.match(lines[at])
        if fence is None:
            return None
        end = _closing(self.path, lines, at, lambda line: line.strip() == fence[2])
        language, _, mode = fence[3].strip().partition(" ")
        self._add(language, mode.strip(), lines, at + 1, end)
        return end + 1

    def _add(self, language: str, mode: str, lines: list[str], start: int, end: int) -> None:
        text = textwrap.dedent("".join(line + "\n" for line in lines[start:end]))
        self.blocks.append(Block(language, mode, text, start + 1))

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def anchors(self) -> list[str]:
        """Of its headings, as the site spells them."""
        return [slug(heading) for heading in HEADING.findall(self.prose)]

    @property
    def links(self) -> list[str]:
        """Targets of its links, without addresses elsewhere."""
        found = LINK.findall(re.sub(r"`[^`\n]*`", "`code`", self.prose))
        return [target for target in found if not re.match(r"[a-z]+:", target)]


def _closing(path: Path, lines: list[str], start: int, closes: Callable[[str], bool]) -> int:
    for at in range(start + 1, len(lines)):
        if closes(lines[at]):
            return at
    raise BlockError(f"{path.name}:{start + 1}: the block has no end")


def slug(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown and GitHub make it of ASCII."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def pages() -> list[Page]:
    """All pages but the index."""
    return [Page(path) for path in sorted(GUIDE.glob("*.md")) if path != INDEX]


def listed() -> list[str]:
    """The names of the pages in the index, in its order."""
    return [name for _, name, _ in ENTRY.findall(INDEX.read_text())]


def check(page: Page, folder: Path) -> None:
    """Do what the page says, in that folder.

    Raises:
        BlockError: it does not work; says where and how.
    """
    for block in page.blocks:
        _parse(page, block)
    if any(block.runs for block in page.blocks):
        _in_a_process(page, folder)


def _parse(page: Page, block: Block) -> None:
    parser = PARSERS.get(block.language)
    if parser is None:
        return
    try:
        parser(page, block)
    except Exception as error:
        raise BlockError(f"{page.path.name}:{block.line}: {error}") from error


def _parse_json(_: Page, block: Block) -> None:
    try:
        json.loads(block.text)
    except ValueError:
        for line in filter(None, map(str.strip, block.text.splitlines())):
            json.loads(line)


def _parse_sh(_: Page, block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        _parse_command(line)


def _parse_command(line: str) -> None:
    """Let the command line parse what it would be given: commands, options and values."""
    import typer

    from amqpjobs.cli.program import program_for

    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    arguments = []
    for word in lexer:
        if arguments and set(word) <= set("|&;<>()"):
            break
        if arguments or not ASSIGNED.match(word):
            arguments.append(word)
    if not arguments or arguments.pop(0) != "amqpjobs":
        return
    command: Any = typer.main.get_command(program_for())
    context: Any = None
    try:
        while True:
            context = command.make_context(command.name, arguments, parent=context)
            if not hasattr(command, "resolve_command"):
                return
            name, found, arguments = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            command = found
            command.name = name
    except typer.Exit:
        return  # --help, --version
    except Exception as error:
        shown = getattr(error, "format_message", error.__str__)()
        raise BlockError(f"{line.strip()}: {shown}") from error


PARSERS: Final[dict[str, Callable[[Page, Block], object]]] = {
    "python": lambda page, block: _compiled(page, block),
    "toml": lambda _, block: tomllib.loads(block.text),
    "yaml": lambda _, block: list(yaml.safe_load_all(block.text)),
    "json": _parse_json,
    "ini": lambda _, block: configparser.RawConfigParser(
        strict=False, allow_no_value=True
    ).read_string(block.text if re.search(r"^\[", block.text, re.M) else f"[all]\n{block.text}"),
    "sh": _parse_sh,
}


def _compiled(page: Page, block: Block) -> ast.Module:
    """Its statements, on the lines that they have on the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = "\n" * (block.line - 1) + block.text
        tree = ast.parse(source, str(page.path))
        compile(tree, str(page.path), "exec", flags=FLAGS)
    return tree


def _in_a_process(page: Page, folder: Path) -> None:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__])
    ours, theirs = forks.Pipe(duplex=False)
    process = forks.Process(target=_run, args=(page.path, folder, theirs), name=page.name)
    process.start()
    theirs.close()
    try:
        error = ours.recv() if ours.poll(PAGE_TIMEOUT) else f"not at its end in {PAGE_TIMEOUT} s"
    except EOFError:
        process.join()
        error = f"its process ended with {process.exitcode}"
    finally:
        process.join(STOP_TIMEOUT)
        if process.is_alive():
            process.kill()
        process.close()
        ours.close()
    if error:
        output = (folder.parent / f"{folder.name}.out").read_text(errors="replace")[-4000:]
        raise BlockError(
            f"{page.path.name}: {error}" + (f"\n--- output\n{output}" if output else "")
        )


def _run(path: Path, folder: Path, result: Any) -> None:
    """In the page's own process: execute it, and report what went wrong."""
    output = os.open(folder.parent / f"{folder.name}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [path.stem]
    warnings.simplefilter("error")
    error = None
    try:
        with Broker.in_thread() as broker, Running(Page(path), folder, broker.url) as running:
            asyncio.run(running.all())
    except BlockError as wrong:
        error = str(wrong)
    except BaseException:
        error = traceback.format_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    result.send(error)


def environment(folder: Path, url: str) -> dict[str, str]:
    """What the page and its commands find in their environment."""
    ours = ("AMQPJOBS_", "AMQP_", "RABBITMQ", "CLOUDAMQP", "PYTEST", "OTEL_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {
        "AMQPJOBS_URL": url,
        "AMQPJOBS_LOG_FORMAT": "console",
        "AMQPJOBS_SHUTDOWN_TIMEOUT": "3",
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",  # a file is replaced within its second
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }


class Running:
    """A page that is executed, block after block.

    Args:
        page: the page.
        folder: where its files and commands are.
        url: the broker's.
    """

    def __init__(self, page: Page, folder: Path, url: str) -> None:
        self._page = page
        self._folder = folder
        self._here = folder
        self._names: dict[str, Any] = {"__name__": page.name}
        self._environment = environment(folder, url)
        self._under_test: App | None = None
        self._testing: Any = None
        self._background: list[Background] = []
        os.environ.clear()
        os.environ.update(self._environment)
        sys.dont_write_bytecode = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for running in self._background:
            running.signal(signal.SIGTERM)
        for running in self._background:
            try:
                running.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                running.signal(signal.SIGKILL)
                running.process.wait()

    async def all(self) -> None:
        """Execute every block."""
        try:
            for block in self._page.blocks:
                if block.runs:
                    await self._block(block)
            for running in self._background:
                await asyncio.to_thread(running.check)
        finally:
            await self._leave(*sys.exc_info())

    async def _block(self, block: Block) -> None:
        try:
            if block.language == "console":
                await asyncio.to_thread(self._console, block)
            elif block.file is not None:
                await asyncio.to_thread(self._write, block, block.file)
            else:
                await self._execute(block)
        except BlockError as error:
            raise BlockError(f"line {block.line}: {error}") from None
        except Exception as error:
            shown = "".join(traceback.format_exception(error))
            raise BlockError(
                f"line {block.line}: {type(error).__name__}: {error}\n{shown}"
            ) from error

    def _write(self, block: Block, name: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        if path.name.startswith("test_"):
            self._pytest(name)
            return
        for module_name, module in tuple(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(f"{self._folder}/"):
                del sys.modules[module_name]
        importlib.invalidate_caches()
        importlib.import_module(name.removesuffix(".py").replace("/", "."))

    def _pytest(self, name: str) -> None:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
                "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function",
                name,
            ],
            cwd=self._folder, env=self._environment, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise BlockError(f"{name} does not pass:\n{done.stdout}{done.stderr}")

    async def _execute(self, block: Block) -> None:
        """Run its statements: up to the first that awaits plainly, then in the app's test."""
        body = _compiled(self._page, block).body
        own = ".testing(" in block.text
        first = next((at for at, node in enumerate(body) if _awaits(node)), len(body))
        if own:
            await self._leave()
        if ".blocking(" in block.text:
            first = 0
        await self._statements(body[:first])
        if not own and first < len(body):
            await self._enter()
        if ".blocking(" in block.text:
            await asyncio.to_thread(exec, self._code(body), self._names)
        else:
            await self._statements(body[first:])

    def _code(self, body: list[ast.stmt]) -> CodeType:
        return compile(ast.Module(body, []), str(self._page.path), "exec", flags=FLAGS)

    async def _statements(self, body: list[ast.stmt]) -> None:
        if body:
            done = eval(self._code(body), self._names)
            if inspect.iscoroutine(done):
                await done

    async def _enter(self) -> None:
        """Test the app that the namespace has by now."""
        app = self._names.get("app")
        if app is self._under_test or not isinstance(app, App):
            return
        await self._leave()
        self._testing = app.testing()
        self._names["t"] = await self._testing.__aenter__()
        self._under_test = app

    async def _leave(self, *error: Any) -> None:
        if self._testing is not None:
            testing, self._testing, self._under_test = self._testing, None, None
            self._names.pop("t", None)
            await testing.__aexit__(*(error or (None, None, None)))

    def _console(self, block: Block) -> None:
        for command, expected in _commands(block.text):
            if command.rstrip().endswith("&"):
                self._start(command.rstrip()[:-1], expected)
            else:
                self._command(command, expected)

    def _command(self, command: str, expected: list[str]) -> None:
        kept = self._folder.parent / f"{self._folder.name}.env"
        script = f"{command}\nstatus=$?; {{ pwd; env -0; }} >{shlex.quote(str(kept))}; exit $status"
        done = subprocess.run(
            [*LIMITED, "bash", "-c", script], cwd=self._here, env=self._environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        output = done.stdout.decode(errors="replace")
        if done.returncode == TIMED_OUT:
            raise BlockError(f"$ {command}\nis not at its end in {COMMAND_TIMEOUT:g} s\n{output}")
        if not expected and done.returncode != 0:
            raise BlockError(f"$ {command}\nexit status {done.returncode}\n{output}")
        if (line := missing(expected, output)) is not None:
            raise BlockError(f"$ {command}\nis to print {line!r} there, and printed:\n{output}")
        if kept.exists():
            here, _, variables = kept.read_text().partition("\n")
            self._here = Path(here)
            self._environment = dict(
                item.split("=", 1) for item in variables.split("\0") if "=" in item
            )

    def _start(self, command: str, expected: list[str]) -> None:
        path = self._folder.parent / f"{self._folder.name}.{len(self._background)}"
        with path.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self._here, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._background.append(Background(command, process, path, expected))
        self._background[-1].wait(SOON)


@dataclass
class Background:
    """A command that goes on until the end of the page."""

    command: str
    process: subprocess.Popen[bytes]
    output: Path
    expected: list[str]

    def missing(self) -> str | None:
        """A line that it is still to print."""
        text = self.output.read_text(errors="replace")
        return next((line for line in self.expected if missing([line], text) is not None), None)

    def wait(self, timeout: float) -> None:
        """Wait for its lines, as long as it runs."""
        deadline = time.monotonic() + timeout
        while self.missing() is not None and time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.check()
                return
            time.sleep(0.02)

    def check(self) -> None:
        """Wait for what it is still to print.

        Raises:
            BlockError: a line has not come.
        """
        if self.process.poll() is None:
            self.wait(COMMAND_TIMEOUT)
        if (line := self.missing()) is not None:
            printed = self.output.read_text(errors="replace")
            raise BlockError(f"$ {self.command}&\nis to print {line!r}, and printed:\n{printed}")

    def signal(self, which: int) -> None:
        """To all of its process group, if it runs."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, which)


def _awaits(node: ast.AST) -> bool:
    """Whether a statement awaits at the top level."""
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    return any(map(_awaits, ast.iter_child_nodes(node)))


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console, each with the lines below it."""
    command: str | None = None
    expected: list[str] = []
    for line in text.splitlines():
        if command is not None and command.endswith("\\"):
            command += "\n" + line
        elif line.startswith("$ "):
            if command is not None:
                yield command, expected
            command, expected = line[2:], []
        elif line.strip():
            expected.append(line)
    if command is not None:
        yield command, expected


def missing(expected: list[str], output: str) -> str | None:
    """The first expected line that does not follow the ones before it; None if all are there."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for wanted in expected:
        parts = [part.strip() for part in " ".join(wanted.split()).split("...")]
        pattern = re.compile(".*".join(map(re.escape, parts)))
        if wanted.strip() != "..." and not any(map(pattern.fullmatch, lines)):
            return wanted
    return None

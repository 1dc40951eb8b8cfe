"""As process 1, with a namespace of process ids around it as a container has: nothing is left to
somebody who is not there."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import PROGRAM, ROOT, command, environment
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE

ISOLATED = (
    "unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)),
    "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", *PROGRAM,
)  # fmt: skip

JOBS = '''
import os, subprocess, sys, time
from pathlib import Path
from amqpjobs import App

app = App("family")
@app.job(queue="family")
def leave_an_orphan(seconds: float) -> list[str]:
    """A grandchild whose parent ends; then wait until it is gone altogether."""
    said = subprocess.run(
        [sys.executable, "-S", "-c", "import os\\nchild = os.fork()\\nif child: print(child)"],
        stdout=subprocess.PIPE, check=True,
    )
    orphan = Path(f"/proc/{int(said.stdout)}")
    deadline = time.monotonic() + seconds
    while orphan.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    state = orphan.joinpath("stat").read_text().split()[2] if orphan.exists() else "gone"
    return [state, Path("/proc/1/cmdline").read_text().replace("\\0", " "), str(os.getpid())]

@app.job(queue="family")
def die(number: int) -> None:
    os.kill(os.getpid(), number)
'''


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "family.py").write_text(JOBS)
    return environment("amqp://nowhere", ROOT, AMQPJOBS_APP="family:app")


def isolated(*arguments: str, env: dict[str, str], folder: Path, stdin: str = ""):
    """A command as process 1, to its end."""
    return command(*arguments, env=env, cwd=folder, stdin=stdin, program=ISOLATED)


def test_orphans_are_collected(env, tmp_path):
    """Python waits for its own children only: others would be zombies until the container ends."""
    done = isolated("run", "leave_an_orphan", "--args", "15", env=env, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"gone"' in done.stdout
    assert "cli/supervisor/init.py" in done.stdout
    assert '"1"' not in done.stdout


def test_elsewhere_there_is_no_other_process(env, tmp_path):
    """Whoever is not process 1 has an init already."""
    done = command("run", "leave_an_orphan", "--args", "15", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cli/supervisor/init.py" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--version",), 0),
        (("run", "nobody"), 2),
        (("run", "die", "--args", str(int(signal.SIGKILL))), 128 + signal.SIGKILL),
        (("run", "die", "--args", str(int(signal.SIGSEGV))), 128 + signal.SIGSEGV),
    ],
)
def test_the_exit_status_is_the_commands(env, tmp_path, arguments, status):
    """As a shell would say it, where a signal was the end."""
    assert isolated(*arguments, env=env, folder=tmp_path).returncode == status


@contextmanager
def shell(env: dict[str, str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A command that handles no SIGTERM, and runs."""
    with subprocess.Popen(
        [*ISOLATED, "shell"], env=env, cwd=folder, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("print('it', 'runs')\n")
        process.stdin.flush()
        while "it runs" not in process.stdout.readline():
            assert process.poll() is None
        yield process
        process.kill()


def test_sigterm_ends_what_has_no_handler_for_it(env, tmp_path):
    """The kernel keeps such signals from process 1: `docker stop` would wait and then kill."""
    with shell(env, tmp_path) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_ctrl_c_at_a_terminal_is_for_the_program(env, tmp_path):
    """It reaches the prompt, which goes on; Ctrl-D ends it."""
    terminal = Terminal([*ISOLATED, "shell"], env, tmp_path, typing=True)
    try:
        terminal.wait_for(">>> ")
        terminal.type("1 + \x03")
        terminal.wait_for("KeyboardInterrupt")
        terminal.type("6 * 7\n")
        terminal.wait_for("42")
        terminal.type("\x04")
        assert terminal.program.wait(PATIENCE) == 0
        assert terminal.seen.count("KeyboardInterrupt") == 1
    finally:
        terminal.close()

"""Containers of the image, run as an engine would, by crun: with a root file system that is read
only, without capabilities, as the user that the image names. What the image says (its entry point,
environment, user, folder) is taken from the image.

The network is the host's: there is no other here, and the brokers are on loopback.
"""

import json
import os
import secrets
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.brokers.broker_guard import Guard
from tests.support.brokers.broker_server import poll
from tests.support.programs import ROOT, Program
from tests.support.waiting import PATIENCE

BUILD_TIMEOUT: Final = 900.0
"""Seconds for all of `deploy/image`: half a minute, and two more where it makes the base first."""

CAPABILITIES: Final = ("bounding", "effective", "inheritable", "permitted", "ambient")

MOUNTS: Final = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
     "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "nodev", "mode=1777", "size=256m"]},
]  # fmt: skip


class ImageMissingError(Exception):
    """The image cannot be built here; the message says what to do."""


class Image:
    """An image, unpacked.

    Attributes:
        rootfs: its files.
        config: what it says of itself, in Docker's words: ``Entrypoint``, ``Cmd``, ``Env``, ...
        history: the commands that it was made by.
    """

    def __init__(self, folder: Path, name: str) -> None:
        said = json.loads((folder / f"{name}.json").read_text())
        self.rootfs = (folder / name).resolve()
        self.text = json.dumps(said)
        self.config: dict[str, Any] = said["Docker"]["config"]
        self.history: list[dict[str, Any]] = said["History"]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(each.split("=", 1) for each in self.config["Env"])

    @property
    def venv(self) -> Path:
        """Where its virtual environment is, on this machine."""
        return self.rootfs / "opt/amqpjobs"

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """All that is in it."""
        folders = [self.rootfs]
        while folders:
            for entry in os.scandir(folders.pop()):
                found = entry.stat(follow_symlinks=False)
                yield os.path.relpath(entry.path, self.rootfs), found
                if stat.S_ISDIR(found.st_mode):
                    folders.append(Path(entry.path))

    def state(self) -> dict[str, tuple[int, ...]]:
        """Of each file what changes when it is written; `ctime` is nobody's to set."""
        return {
            name: (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            for name, found in self.files()
        }


def build() -> tuple[Path, str]:
    """Build the images; their folder, and what the build said."""
    if os.geteuid() != 0:
        raise ImageMissingError(
            "The image is built and run as root. Run these tests as root, or leave them out with"
            ' `-m "not image"`.'
        )
    done = subprocess.run(
        [ROOT / "deploy/image"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=BUILD_TIMEOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ImageMissingError(f"deploy/image failed:\n{done.stdout}{done.stderr}")
    *said, folder = done.stdout.splitlines()
    return Path(folder), "\n".join(said)


class Engine:
    """Runs containers; what still runs at the end of the session, or of this process, is killed.

    Args:
        folder: for what crun knows of them.
    """

    def __init__(self, folder: Path) -> None:
        # It needs no cgroups, but refuses to start where both versions are mounted, unless it does
        # not see them.
        unseen = 'mount -t tmpfs tmpfs /sys/fs/cgroup && exec "$@"'
        self._crun = [
            "unshare", "--mount", "sh", "-c", unseen, "sh",
            "crun", "--root", str(folder), "--cgroup-manager=disabled",
        ]  # fmt: skip
        self._guard = Guard()

    def close(self) -> None:
        """End what is left."""
        self._guard.close()

    def crun(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run one of its commands."""
        return subprocess.run(
            [*self._crun, *arguments], text=True, capture_output=True, timeout=60, check=False,
            **options,
        )  # fmt: skip

    def command(self, bundle: Path, name: str) -> list[str]:
        """How a container is run in the foreground."""
        return [*self._crun, "run", "--bundle", str(bundle), "--pid-file", f"{bundle}/pid", name]

    def remove(self, name: str) -> None:
        """Kill what still runs of a container, and forget it."""
        self.crun("delete", "--force", name)

    def watch(self, pid: int) -> None:
        """Have a container's first process killed at the end, and with it all others."""
        self._guard.kill_at_end(pid)


class Place:
    """Where a test's containers are started: an image, settings and volumes.

    Args:
        engine: what runs them.
        image: what they are of.
        folder: for their bundles, and what they print.
        settings: variables, beside those of the image.
        volumes: folders of this machine, by where they are in the container.
    """

    def __init__(
        self,
        engine: Engine,
        image: Image,
        folder: Path,
        settings: Mapping[str, str],
        volumes: Mapping[str, Path] | None = None,
    ) -> None:
        self.engine = engine
        self.image = image
        self.folder = folder
        self.settings = dict(settings)
        self.volumes = dict(volumes or {})

    def _bundle(self, arguments: Sequence[str], **process: Any) -> Path:
        bundle = self.folder / f"bundle-{secrets.token_hex(4)}"
        bundle.mkdir()
        config = self.image.config
        uid, gid = map(int, config["User"].split(":"))
        variables = self.image.environment | self.settings
        specification = {
            "ociVersion": "1.0.2",
            "hostname": "container",
            "root": {"path": str(self.image.rootfs), "readonly": True},
            "process": {
                "args": [*config["Entrypoint"], *(arguments or config["Cmd"])],
                "cwd": config["WorkingDir"],
                "env": [f"{name}={value}" for name, value in variables.items()],
                "user": {"uid": uid, "gid": gid},
                "capabilities": {kind: [] for kind in CAPABILITIES},
                "noNewPrivileges": True,
                **process,
            },
            "mounts": [
                *MOUNTS,
                *(
                    {"destination": where, "type": "bind", "source": str(folder),
                     "options": ["rbind", "rw"]}
                    for where, folder in self.volumes.items()
                ),
            ],
            "linux": {"namespaces": [{"type": each} for each in ("pid", "mount", "ipc", "uts")]},
        }  # fmt: skip
        (bundle / "config.json").write_text(json.dumps(specification))
        return bundle

    def run(
        self, *arguments: str, stdin: str = "", timeout: float = 60.0, **process: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, as ``docker run`` does; `process` goes before the image's."""
        bundle = self._bundle(arguments, **process)
        try:
            return subprocess.run(
                self.engine.command(bundle, bundle.name), input=stdin, text=True,
                capture_output=True, timeout=timeout, check=False,
            )  # fmt: skip
        finally:
            self.engine.remove(bundle.name)

    @contextmanager
    def running(self, *arguments: str) -> Iterator["Container"]:
        """A container that runs inside of the block."""
        bundle = self._bundle(arguments)
        container = Container(self.engine, bundle, self.folder)
        try:
            yield container
        finally:
            self.engine.remove(container.name)
            container.kill()


class Container(Program):
    """A container that runs; its log is looked at meanwhile."""

    def __init__(self, engine: Engine, bundle: Path, folder: Path) -> None:
        self.name = bundle.name
        self._engine = engine
        environment = os.environ | {"JOBS_LEDGER": str(folder / "ledger")}
        super().__init__((), environment, ROOT, engine.command(bundle, self.name))
        pid = bundle / "pid"
        assert poll(lambda: (pid.exists() and pid.read_text()) or self.ended, 20), str(self)
        assert pid.exists(), str(self)
        self.first = int(pid.read_text())
        engine.watch(self.first)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """To process 1, as ``docker stop`` and Kubernetes do."""
        done = self._engine.crun("kill", self.name, str(int(number)))
        assert done.returncode == 0, done.stderr

    def exec(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in it, as ``docker exec`` and health checks do."""
        return self._engine.crun("exec", self.name, *command, stdin=subprocess.DEVNULL)

    def healthy(self) -> str:
        """What its health check says, once it has all that it needs: that shows a moment later."""
        said = ""

        def looks_so() -> bool:
            nonlocal said
            done = self.exec("amqpjobs", "health", "--strict")
            said = done.stdout or done.stderr
            return done.returncode == 0

        assert poll(looks_so, PATIENCE), said
        return said

    def processes(self) -> dict[int, str]:
        """All that are in it, by their ids on this machine: what runs, ``Z`` first for a zombie."""
        space = Path(f"/proc/{self.first}/ns/pid").readlink()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "ns/pid").readlink() != space:
                    continue
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                command = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has ended
            found[int(folder.name)] = f"{state} {command}"
        return found

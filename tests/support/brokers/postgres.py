"""A private PostgreSQL for tests: Debian's package, started here on a free loopback port.

PostgreSQL refuses to run as root, so root runs it as Debian's user `postgres`. Its data folder is
its own and goes with it; a guard process ends it when the session ends in whatever way.
"""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.support.brokers.broker_guard import Guard
from tests.support.brokers.broker_server import poll
from tests.support.brokers.brokers import free_ports

PACKAGE: Final = "postgresql"
START_TIMEOUT: Final = 60.0


class PostgresMissingError(Exception):
    """PostgreSQL is not installed; the message says what to run."""


def find_programs() -> Path:
    """The folder of `initdb` and `postgres`; the newest, if there are several."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    if not found:
        raise PostgresMissingError(
            "PostgreSQL is not installed. Run `deploy/ci/brokers.sh` as root, or leave these tests "
            'out with `-k "not postgres"`.'
        )
    return found[-1]


class Postgres:
    """One server, a child of this process, that can be stopped, killed and started again."""

    def __init__(self) -> None:
        self._programs = find_programs()
        self._guard = Guard()
        self._server: subprocess.Popen[bytes] | None = None
        self.port = free_ports(1)[0]
        self.home = Path(tempfile.mkdtemp(prefix="amqpjobs-postgres-"))
        self._guard.remove_at_end(self.home)
        self._user = self._own_user()
        self._run("initdb", "--pgdata", str(self.home / "data"), "--username=tests", "--auth=trust",
                  "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        self.start()

    def _own_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam("postgres")
        shutil.chown(self.home, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments], check=True, capture_output=True,
            cwd=self.home, **self._user,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, on the same port with the same data, and wait for it."""
        with (self.home / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self.home / "data"), "-h", "127.0.0.1",
                 "-p", str(self.port), "-k", str(self.home), "-c", "fsync=off"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                cwd=self.home, **self._user,
            )  # fmt: skip
        self._guard.kill_at_end(self._server.pid)
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        assert poll(lambda: subprocess.run(ready, check=False).returncode == 0, START_TIMEOUT), (
            self.home / "log"
        ).read_text()[-2000:]

    def stop(self) -> None:
        """End it in order, not waiting for its clients (SIGINT: its "fast" way)."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(30)
            self._guard.forget(self._server.pid)
            self._server = None

    def close(self) -> None:
        """End it, and remove its data."""
        self.stop()
        self._guard.close()

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"t{secrets.token_hex(6)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tests", name)
        return f"postgresql://tests:secret@127.0.0.1:{self.port}/{name}"


async def execute(url: str, *statements: str) -> None:
    """Run statements in a database."""
    import asyncpg

    async with asyncio.timeout(30):
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

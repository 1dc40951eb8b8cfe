"""Packages from PyPI that do not fit beside the others, pinned by hash, kept in the cache."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("AMQPJOBS_CACHE") or "~/.cache/amqpjobs").expanduser()


def uv() -> str:
    """The path of uv: the machine's, or the one that `deploy/ci/environment.sh` has installed."""
    return shutil.which("uv") or str(CACHE / "uv/bin/uv")


def folder_of(requirements: Path) -> Path:
    """A folder for ``PYTHONPATH`` with these packages and none of what they need; fetched once for
    a machine.

    Args:
        requirements: with hashes; what is not as they say is refused.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    target = CACHE / "pypi" / f"{requirements.stem}-{digest}-{sys.version_info.minor}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as made:
            done = subprocess.run(
                [
                    uv(), "pip", "install", "--python", sys.executable, "--target",
                    f"{made}/packages", "--no-deps", "--require-hashes", "-r", str(requirements),
                ],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            try:
                Path(made, "packages").rename(target)
            except OSError:
                assert target.exists()  # another test run was faster
    return target

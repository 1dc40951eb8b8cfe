"""Source distributions from PyPI, pinned by hash, unpacked in the cache: they have clients' tests.

pip fetches them; what it needs to do so comes with hashes as well (`folder_of`).
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.support.pypi import CACHE, folder_of


def source_of(name: str, version: str, sha256: str, tools: Path) -> Path:
    """The unpacked source distribution; fetched once for a machine.

    Args:
        name: of the project.
        version: of the release.
        sha256: of its archive, in hexadecimal. Anything else is refused.
        tools: requirements with pip, and with what the distribution is built by.
    """
    target = CACHE / "sdists" / f"{name}-{version}-{sha256[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as made:
            folder = Path(made)
            archive = _fetched(f"{name}=={version}", name, folder_of(tools), folder)
            found = hashlib.sha256(archive.read_bytes()).hexdigest()
            assert found == sha256, f"{archive.name} from PyPI has sha256 {found}, not {sha256}"
            with tarfile.open(archive) as packed:
                packed.extractall(folder / "unpacked", filter="data")
            [root] = (folder / "unpacked").iterdir()
            try:
                root.rename(target)
            except OSError:
                assert target.exists()  # another test run was faster
    return target


def _fetched(what: str, name: str, tools: Path, folder: Path) -> Path:
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--no-binary", name, "--no-build-isolation", "--dest", str(folder), what,
        ],
        env={**os.environ, "PYTHONPATH": str(tools), "PATH": f"{tools}/bin:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [archive] = folder.glob("*.tar.gz")
    return archive

"""Where the photographs come from: two Debian packages, unpacked into a cache without installing.

``examples/README.md`` names the photographers' licences; the packages' own copyright files are
kept beside the photographs.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from amqpjobs.demo.photographs import CACHE, PhotographsMissing

PLACE = CACHE / "photographs"

BACKGROUNDS = Path("usr/share/backgrounds")

PACKAGES = {
    "lomiri-wallpapers-16.04": (
        "Bridge_by_Sander_Klootwijk.jpg",
        "Dragonfly_by_Bolly.jpg",
        "Picture_0B_by_freespace.jpg",
        "Wine_by_Jakkub_Mede.jpg",
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        "free_by_Peter_Nerlich.jpg",
        "friends_by_Aitzol_Berasategi.jpg",
        "greentock_by_Peter_Nerlich.jpg",
        "life_by_Aitzol_Berasategi.jpg",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "seeding_by_Clements_Engelhardt.jpg",
        "sunset_by_Aitzol_Berasategi.jpg",
    ),
    "mate-backgrounds": (
        "mate/nature/Blinds.jpg",
        "mate/nature/Dune.jpg",
        "mate/nature/Garden.jpg",
        "mate/nature/LadyBird.jpg",
        "mate/nature/Storm.jpg",
        "mate/nature/TwoWings.jpg",
        "mate/nature/Wood.jpg",
        "mate/nature/YellowFlower.jpg",
    ),
}
"""Photographs by Debian package. Its drawings and renderings are left out."""


def find_photographs() -> list[Path]:
    """The photographs: from the machine if the packages are installed, else from the cache.

    The first call fetches what is missing (62 MB), with apt and the machine's own Debian mirror;
    neither root nor an ``apt-get update`` is needed.

    Raises:
        PhotographsMissing: no apt here, or it found nothing.
    """
    missing = [package for package in PACKAGES if not all(_places(package))]
    if missing:
        _fetch(missing)
    return sorted(
        (place for package in PACKAGES for place in _places(package) if place),
        key=lambda path: path.name.lower(),
    )


def _places(package: str) -> Iterator[Path | None]:
    """Where each photograph of a package is, or None."""
    for name in PACKAGES[package]:
        candidates = (Path("/") / BACKGROUNDS / name, PLACE / package / Path(name).name)
        yield next((place for place in candidates if place.is_file()), None)


def _fetch(packages: list[str]) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE, prefix=".fetch-") as name:
        folder = Path(name)
        _download(packages, folder)
        for package in packages:
            archive = next(folder.glob(f"{package}_*.deb"))
            _run(["dpkg-deb", "--extract", str(archive), str(folder / package)], folder)
            _keep(package, folder / package)


def _download(packages: list[str], folder: Path) -> None:
    apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]
    try:
        _run([*apt, "download", *packages], folder)
    except PhotographsMissing:
        # No package lists, as in a fresh container: lists of our own, beside the machine's.
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        apt += ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        _run([*apt, "update"], folder)
        _run([*apt, "download", *packages], folder)


def _keep(package: str, unpacked: Path) -> None:
    """Move what is wanted into the cache, each file at once: another program may look."""
    target = PLACE / package
    target.mkdir(exist_ok=True)
    (unpacked / "usr/share/doc" / package / "copyright").replace(target / "copyright")
    for name in PACKAGES[package]:
        (unpacked / BACKGROUNDS / name).replace(target / Path(name).name)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands of the system's own
            command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PhotographsMissing(_advice(command[0], str(error))) from error
    if done.returncode:
        raise PhotographsMissing(_advice(command[0], (done.stderr or done.stdout).strip()))


def _advice(program: str, problem: str) -> str:
    last = problem.splitlines()[-1] if problem else "it failed"
    return (
        f"the photographs come from the Debian packages {' and '.join(PACKAGES)}, which could not "
        f"be fetched ({program}: {last}); for photographs of your own: --photographs FOLDER"
    )

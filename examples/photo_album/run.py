"""Publish an album of real photographs with two competing workers, and show who did what.

``python -m examples.photo_album.run``, with RabbitMQ at ``AMQPJOBS_URL``; ``--help`` says more.
Exit status 0 if all is as promised, else 1; 2 without photographs, 3 without RabbitMQ.
"""

import argparse
import asyncio
import json
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from amqpjobs import JobHandle
from amqpjobs.demo.album import LARGEST, Photograph, Sizes, add_to_album, app, thumbnails
from amqpjobs.demo.photographs import CACHE, PhotographsMissing, photographs_in
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable
from examples.photo_album.photographs import find_photographs
from examples.photo_album.workers import (
    CONSUME,
    ShowFailed,
    WorkerProcess,
    dead_letters,
    wait_until,
)

START_TIMEOUT = 30.0
"""Seconds until both workers consume."""


@dataclass
class Picture:
    """What became of one photograph.

    Attributes:
        fits: whether the album takes one of that size.
        exif: how many EXIF fields the photograph has, and its web size.
        runs: how often a worker ran its job to its end.
        failure: why its job is among the dead letters, if it is.
    """

    name: str
    job_id: str
    fits: bool
    runs: int = 0
    worker: int | None = None
    ms: float | None = None
    thumbnail: tuple[int, int] | None = None
    web: tuple[int, int] | None = None
    exif: tuple[int, int] | None = None
    failure: str | None = None

    @property
    def is_right(self) -> bool:
        """Whether it is in the album if it fits, and failed if it does not."""
        if self.thumbnail is None or self.web is None:
            return not self.fits and self.failure is not None
        return self.fits and self.failure is None and self.exif is not None and self.exif[1] == 0


@dataclass
class Shown:
    """All that there is to tell."""

    pictures: list[Picture]
    statuses: list[int]
    seconds: float

    @property
    def promises(self) -> Mapping[str, bool]:
        """What the example promises, and whether it is so."""
        fitting = [picture for picture in self.pictures if picture.fits]
        large = [picture for picture in self.pictures if not picture.fits]
        statuses = " and ".join(map(str, self.statuses))
        return {
            f"{len(fitting)} photographs are in the album, in both sizes and without EXIF": (
                all(picture.is_right for picture in fitting)
            ),
            f"{len(large)} failed alone, and is in {thumbnails.dead} with its reason": (
                all(picture.is_right for picture in large)
            ),
            "every job ran exactly once": all(picture.runs == 1 for picture in self.pictures),
            "both workers took part": {picture.worker for picture in self.pictures} == {1, 2},
            f"stopped by SIGTERM, the workers ended with exit status {statuses}": (
                self.statuses == [0, 0]
            ),
        }


async def publish(photographs: Sequence[Photograph]) -> list[JobHandle[Sizes]]:
    """One job for each photograph. The first is the album's cover, and is wanted soonest."""
    cover, *others = photographs
    async with app.lifespan():
        return await app.later_many(
            [
                add_to_album.with_options(priority="high").message(cover),
                *(add_to_album.message(photograph) for photograph in others),
            ]
        )


def show(photographs: Sequence[Photograph], album: Path, timeout: float) -> Shown:
    """Make the album with two workers."""
    started = time.monotonic()
    album.mkdir(parents=True, exist_ok=True)
    for photograph in photographs:  # what an earlier run made proves nothing
        photograph.thumbnail.unlink(missing_ok=True)
        photograph.web.unlink(missing_ok=True)
    workers: list[WorkerProcess] = []
    try:
        workers += (WorkerProcess(number, album / f"worker-{number}.log") for number in (1, 2))
        wait_until(
            lambda: all(w.is_ready for w in workers), workers, "both workers consume", START_TIMEOUT
        )
        jobs = asyncio.run(publish(photographs))
        wanted = {job.id for job in jobs}
        wait_until(
            lambda: wanted <= {e["job_id"] for worker in workers for e in worker.endings()},
            workers,
            "every job is over",
            timeout,
        )
    finally:
        statuses = [worker.stop() for worker in workers]
    pictures = examine(photographs, jobs, workers)
    return Shown(pictures, statuses, round(time.monotonic() - started, 2))


def examine(
    photographs: Sequence[Photograph],
    jobs: Sequence[JobHandle[Sizes]],
    workers: Sequence[WorkerProcess],
) -> list[Picture]:
    """What became of each: by the files, the dead letters and the workers' logs."""
    letters = dead_letters()
    pictures = {}
    for photograph, job in zip(photographs, jobs, strict=True):
        (width, height), before = size_and_exif(photograph.path)
        picture = Picture(photograph.path.name, job.id, fits=width * height <= LARGEST)
        picture.failure = letters.get(job.id)
        if photograph.thumbnail.exists() and photograph.web.exists():
            picture.thumbnail, _ = size_and_exif(photograph.thumbnail)
            picture.web, after = size_and_exif(photograph.web)
            picture.exif = before, after
        pictures[job.id] = picture
    for worker in workers:
        for ending in worker.endings():
            if ending["job_id"] in pictures:  # not left over from an earlier, interrupted run
                picture = pictures[ending["job_id"]]
                picture.runs += 1
                picture.worker, picture.ms = worker.number, ending["running_ms"]
    return list(pictures.values())


def size_and_exif(path: Path) -> tuple[tuple[int, int], int]:
    """Width and height, and how many EXIF fields there are."""
    with Image.open(path) as image:
        exif = image.getexif()
        return image.size, len(exif) + len(exif.get_ifd(0x8769)) + len(exif.get_ifd(0x8825))


def print_shown(shown: Shown, album: Path) -> None:
    """A table of the photographs, why one failed, and the promises."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("photograph")
    for heading in ("worker", "thumbnail", "web size", "EXIF", "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for picture in shown.pictures:
        table.add_row(
            Path(picture.name).stem.partition("_by_")[0],
            str(picture.worker or "-"),
            _size(picture.thumbnail),
            _size(picture.web),
            "{} -> {}".format(*picture.exif) if picture.exif else "-",
            f"{picture.ms:.0f}" if picture.ms is not None else "-",
        )
    console.print(table)
    console.print()
    for picture in shown.pictures:
        if picture.failure:
            console.print(f"{thumbnails.dead}: {picture.failure}", markup=False, soft_wrap=True)
    console.print()
    for promise, kept in shown.promises.items():
        console.print("[green]ok[/]    " if kept else "[red]FAILED[/]", promise)
    console.print(f"\n{album}, in {shown.seconds:.1f} s", markup=False, soft_wrap=True)


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]} x {size[1]}" if size else "-"


def print_json(shown: Shown, album: Path) -> None:
    """The same for programs."""
    promises = [{"promise": text, "kept": kept} for text, kept in shown.promises.items()]
    print(json.dumps({**asdict(shown), "promises": promises, "album": str(album)}, indent=2))


def main() -> int:
    """Run the example; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--album", type=Path, default=CACHE / "album", help="its folder (%(default)s)"
    )
    parser.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="JPEG files of your own to publish"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for all jobs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    album = options.album.resolve()
    try:
        folder = options.photographs
        sources = photographs_in(folder) if folder else find_photographs()
        if not options.json:
            print(f"{len(sources)} photographs, one job for each, and two workers:")
            print(f"amqpjobs {shlex.join(CONSUME)}\n")
        photographs = [Photograph(path=source, album=album) for source in sources]
        shown = show(photographs, album, options.timeout)
    except (PhotographsMissing, ShowFailed, AmqpJobsError) as error:
        print(f"photo album: {error}", file=sys.stderr)
        return _status(error)
    except KeyboardInterrupt:
        return 130
    (print_json if options.json else print_shown)(shown, album)
    return 0 if all(shown.promises.values()) else 1


def _status(error: Exception) -> int:
    if isinstance(error, PhotographsMissing):
        return 2
    return 3 if isinstance(error, BrokerUnavailable) else getattr(error, "status", 1)


if __name__ == "__main__":
    # Ended by SIGTERM, too, it stops its workers first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())

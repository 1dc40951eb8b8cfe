"""The same work by amqpjobs and its peers, side by side in one run on one broker.

Measured, in messages per second, in one process each, on a quorum queue with persistent 90-byte
JSON messages that pydantic validates and that are acked after their handler has returned:

    consume     drain a queue that was filled before
    publish     publish with up to 500 messages waiting for their confirms
    sequential  publish, wait for the confirm, publish the next

The contenders take turns (A B C A B C ...), so that a change of the machine's mood hits all of
them. After each turn the queue must hold what it should (nothing after `consume`), the count and
the sum of the order numbers must be right, and what was published must be persistent. Before
publishing is measured, each contender whose queue we declare must notice a queue that refuses
messages: one that does not wait for confirms has nothing to compare.

With ``--as-shipped`` a queue is drained by each framework's own command line instead, with its own
log: see as_shipped.py.
"""

import argparse
import asyncio
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import as_shipped
from harness import (
    AIO_PIKA,
    Bench,
    BenchmarkError,
    Broker,
    Contender,
    choose,
    environment,
    parser,
    table,
    write,
)

WORKS = ("consume", "publish", "sequential")


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender under one event loop."""

    contender: Contender
    uvloop: bool

    @property
    def name(self) -> str:
        return f"{self.contender.name}, uvloop" if self.uvloop else self.contender.name


@dataclass(slots=True)
class Results:
    """Every turn's result by work and entry, and what failed."""

    turns: dict[tuple[str, str], list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    failures: list[dict[str, str]] = field(default_factory=list)

    def rows(self, work: str) -> list[dict[str, Any]]:
        """One summary per entry that was measured in this work, the fastest first."""
        medians = {
            name: statistics.median(turn["rate"] for turn in turns)
            for (of, name), turns in self.turns.items()
            if of == work
        }
        base = medians.get(AIO_PIKA.name)
        rows = [
            {
                "work": work,
                "contender": name,
                "median": median,
                "lowest": min(turn["rate"] for turn in self.turns[work, name]),
                "highest": max(turn["rate"] for turn in self.turns[work, name]),
                "ratio": median / base if base else None,
                "cpu_us": 1e6
                * statistics.median(turn["cpu"] / turn["of"] for turn in self.turns[work, name]),
                "rounds": len(self.turns[work, name]),
            }
            for name, median in medians.items()
        ]
        return sorted(rows, key=lambda row: -row["median"])


async def turn(
    bench: Bench, broker: Broker, entry: Entry, work: str, options: argparse.Namespace
) -> dict[str, Any]:
    """One contender's turn at one work, on a new queue, with its checks."""
    contender = entry.contender
    queue = f"bench.{contender.script.split('.')[0].strip('_')}"
    count = options.sequential_count if work == "sequential" else options.count
    await broker.delete(queue)
    if not contender.declares:
        await broker.declare(queue)
    try:
        if work == "consume":
            await bench.fill(contender, queue, count, options.prefetch)
            await broker.expect(queue, count)
            await asyncio.sleep(options.settle)
        result = await bench.run(contender, queue, work, count, options.prefetch, entry.uvloop)
        check(result, work, count)
        await broker.expect(queue, 0 if work == "consume" else count)
        if work != "consume":
            await broker.expect_persistent(queue)
    finally:
        await broker.delete(queue)
    return {"rate": count / result["seconds"], "cpu": result["cpu"], "of": count}


def check(result: dict[str, Any], work: str, count: int) -> None:
    """Check that every order was handled, and once."""
    if result["count"] != count:
        raise BenchmarkError(f"{result['count']} messages instead of {count}")
    if work == "consume" and result["checksum"] != count * (count - 1) // 2:
        raise BenchmarkError("the right number of messages, but not each of them once")


async def notices_refusal(bench: Bench, broker: Broker, entry: Entry, work: str) -> None:
    """Check that a publish which the broker refuses does not count as a success.

    Contenders that declare their queue with arguments of their own cannot be checked in this way.
    """
    queue = f"bench.refusing.{entry.contender.script.split('.')[0].strip('_')}"
    await broker.delete(queue)
    await broker.declare_refusing(queue)
    try:
        await bench.run(entry.contender, queue, work, 50, 1, entry.uvloop)
    except BenchmarkError:
        return
    finally:
        await broker.delete(queue)
    raise BenchmarkError("reported success for messages that the broker refused")


async def check_confirms(
    bench: Bench, broker: Broker, entries: list[Entry], works: list[str], results: Results
) -> set[tuple[str, str]]:
    """The publishing works that each entry may not take part in, noted as failures."""
    barred = set()
    for entry in entries:
        for work in works:
            if work == "consume" or entry.contender.declares:
                continue
            try:
                await notices_refusal(bench, broker, entry, work)
            except BenchmarkError as failure:
                barred.add((work, entry.name))
                note(results, entry, work, failure)
    return barred


def note(results: Results, entry: Entry, work: str, failure: BenchmarkError) -> None:
    """Remember a failure and say it."""
    results.failures.append({"work": work, "contender": entry.name, "failure": str(failure)})
    print(f"  FAILED {entry.name}, {work}: {failure}", file=sys.stderr, flush=True)


async def measure(
    bench: Bench, broker: Broker, entries: list[Entry], options: argparse.Namespace
) -> Results:
    """All rounds of all works; a contender that fails in a work is left out of its later rounds."""
    results = Results()
    works = [work for work in WORKS if work in options.works.split(",")]
    barred = await check_confirms(bench, broker, entries, works, results)
    for work in works:
        for number in range(1, options.rounds + 1):
            for entry in entries:
                if (work, entry.name) in barred:
                    continue
                try:
                    done = await turn(bench, broker, entry, work, options)
                except BenchmarkError as failure:
                    barred.add((work, entry.name))
                    note(results, entry, work, failure)
                    continue
                results.turns[work, entry.name].append(done)
                print(f"  {work} {number}: {entry.name} {done['rate']:,.0f}/s", file=sys.stderr)
    return results


def show(results: Results, works: str) -> list[dict[str, Any]]:
    """Print a table per work and return their rows."""
    shown = []
    for work in works.split(","):
        rows = results.rows(work)
        shown += rows
        cells = [
            [
                row["contender"],
                f"{row['median']:,.0f}",
                f"{row['lowest']:,.0f}-{row['highest']:,.0f}",
                f"{row['ratio']:.2f}" if row["ratio"] else "-",
                f"{row['cpu_us']:.0f}",
            ]
            for row in rows
        ]
        print(f"\n{work}\n")
        print(table([work, "median/s", "range", "x aio-pika", "own CPU us"], cells))
    for failure in results.failures:
        print(f"\nFAILED {failure['contender']}, {failure['work']}: {failure['failure']}")
    return shown


async def main_as_shipped(options: argparse.Namespace) -> int:
    """All rounds of the command lines, in turns."""
    bench = Bench(options.url, options.python, options.timeout)
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    failures: list[dict[str, str]] = []
    async with Broker.connected(options.url) as broker:
        for number in range(1, options.rounds + 1):
            for worker in as_shipped.chosen(options.contenders):
                try:
                    done = await as_shipped.turn(bench, broker, worker, options)
                except BenchmarkError as failure:
                    failures.append({"contender": worker.name, "failure": str(failure)})
                    print(f"  FAILED {worker.name}: {failure}", file=sys.stderr)
                    continue
                turns[worker.name].append(done)
                print(f"  {number}: {worker.name} {done['rate']:,.0f}/s", file=sys.stderr)
        described = environment(broker.version, options)
    cells = []
    for name, of in turns.items():
        rates = [turn["rate"] for turn in of]
        cells.append(
            [
                name,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f}-{max(rates):,.0f}",
                f"{1e6 * statistics.median(turn['cpu'] for turn in of):.0f}",
                str(of[0]["processes"]),
                f"{of[0]['log_bytes'] / options.count:.0f}",
            ]
        )
    heads = ["as shipped", "median/s", "range", "own CPU us", "processes", "bytes of log a job"]
    print(table(heads, cells))
    write(
        options.json,
        described | {"benchmark": "as shipped", "turns": dict(turns), "failures": failures},
    )
    return 1 if failures else 0


async def main(options: argparse.Namespace) -> int:
    if options.as_shipped:
        return await main_as_shipped(options)
    unknown = set(options.works.split(",")) - set(WORKS)
    if unknown:
        raise SystemExit(f"unknown work {', '.join(unknown)}: choose from {', '.join(WORKS)}")
    chosen = choose(options.contenders)
    entries = [Entry(contender, uvloop=False) for contender in chosen]
    if options.uvloop:
        entries += [Entry(contender, uvloop=True) for contender in chosen if contender.uvloop]
    bench = Bench(options.url, options.python, options.timeout)
    async with Broker.connected(options.url) as broker:
        results = await measure(bench, broker, entries, options)
        rows = show(results, options.works)
        write(
            options.json,
            environment(broker.version, options)
            | {
                "benchmark": "peers",
                "results": rows,
                "turns": [
                    {"work": work, "contender": name, **turn}
                    for (work, name), turns in results.turns.items()
                    for turn in turns
                ],
                "failures": results.failures,
            },
        )
    return 1 if results.failures else 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=20_000, help="consume and publish")
    options.add_argument("--sequential-count", type=int, default=2_000)
    options.add_argument("--prefetch", type=int, default=200, help="prefetch and concurrency")
    options.add_argument("--works", default=",".join(WORKS))
    options.add_argument("--contenders", help="comma-separated, default all")
    options.add_argument("--as-shipped", action="store_true", help="by each one's command line")
    options.add_argument("--uvloop", action="store_true", help="also run under uvloop")
    options.add_argument("--settle", type=float, default=1.0, help="seconds from fill to consume")
    options.add_argument("--timeout", type=float, default=300.0, help="seconds for one turn")
    sys.exit(asyncio.run(main(options.parse_args())))

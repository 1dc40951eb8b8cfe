"""Draw the medians of a results file of peers.py: `plot.py peers.json peers.svg` (or .png)."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a tenth of the size

OURS = "#d1495b"
BASE = "#30638e"
OTHERS = "#9fb4c7"


def colour(contender: str) -> str:
    """Ours and the base of the ratios stand out."""
    if contender.startswith("amqpjobs"):
        return OURS
    return BASE if contender.startswith("aio-pika") else OTHERS


def draw(axes: Any, work: str, rows: list[dict[str, Any]]) -> None:
    """One bar per contender, the fastest on top, with its range and its ratio to aio-pika."""
    rows = sorted(rows, key=lambda row: row["median"])
    medians = [row["median"] for row in rows]
    spread = [
        [row["median"] - row["lowest"] for row in rows],
        [row["highest"] - row["median"] for row in rows],
    ]
    names = [row["contender"] for row in rows]
    axes.barh(names, medians, xerr=spread, color=[colour(name) for name in names], capsize=3)
    for place, row in enumerate(rows):
        ratio = f"  ({row['ratio']:.1f}x)" if row["ratio"] else ""
        axes.annotate(
            f"{row['median']:,.0f}{ratio}",
            (row["highest"], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_title(f"{work}, messages per second", loc="left", fontsize=10)
    axes.set_xlim(0, max(row["highest"] for row in rows) * 1.25)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("image", type=Path)
    options = parser.parse_args()
    data = json.loads(options.results.read_text())
    works = list(dict.fromkeys(row["work"] for row in data["results"]))
    if not works:
        raise SystemExit("the file holds no results")
    by_work = {work: [row for row in data["results"] if row["work"] == work] for work in works}
    heights = [len(rows) + 1 for rows in by_work.values()]
    figure, all_axes = plt.subplots(
        len(works),
        figsize=(9, 0.32 * sum(heights) + 1.2),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axes, (work, rows) in zip(all_axes[:, 0], by_work.items(), strict=True):
        draw(axes, work, rows)
    figure.supxlabel(
        f"median and range; {data['broker']}, Python {data['python']}, {data['processor']}"
        f" ({data['cores']} cores), {data['date'][:10]}",
        fontsize=7,
    )
    figure.savefig(options.image)


if __name__ == "__main__":
    main()

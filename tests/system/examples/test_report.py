"""The example of a report over a folder of texts, as its users run it: two workers, of which one is
killed later, and a program that waits for the report."""

import re
import sys
from pathlib import Path

import pytest

from examples.report.jobs import GUIDE
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, consuming, environment

RUN = (sys.executable, "-m", "examples.report.run")


def words_in(folder: Path) -> int:
    """Letters side by side, two or more: counted in another way than by the example."""
    kept = "".join(
        character if character.isalpha() else " "
        for path in folder.glob("*.md")
        for character in path.read_text() + " "
    )
    return sum(len(word) > 1 for word in kept.split())


@pytest.mark.timeout(180)
def test_the_report_counts_every_text(broker: VirtualHost, tmp_path: Path) -> None:
    """Those of the guide, by two workers; and those of another folder when one was killed."""
    store = f"sqlite:///{tmp_path}/jobs.db"
    env = environment(
        broker.url, tmp_path, AMQPJOBS_APP="examples.report.jobs:app", AMQPJOBS_STORE_URL=store
    )
    pages = len(list(GUIDE.glob("*.md")))
    with consuming(env=env) as one, consuming(env=env) as other:
        ran = command(env=env, program=RUN)
        assert ran.returncode == 0, str(ran)
        found = re.match(r"(\d+) texts, (\d+) words\nthe longest: troubleshooting ", ran.stdout)
        assert found is not None, str(ran)
        assert (int(found[1]), int(found[2])) == (pages, words_in(GUIDE))
        assert other.logged("job done", job="count")
        other.kill()

        texts = tmp_path / "texts"
        texts.mkdir()
        (texts / "poem.md").write_text("A rose is a rose is a rose.")
        ran = command(str(texts), env=env, program=RUN)
        assert ran.stdout.startswith("1 texts, 5 words\nthe longest: poem (5)\n"), str(ran)
        one.wait_for("job done", job="report")

"""Writing manifests where somebody may have been at work."""

from pathlib import Path

import pytest

from amqpjobs import App
from amqpjobs.cli.deploy import files_of
from amqpjobs.cli.deploy.folder import write
from amqpjobs.errors import ConfigurationError
from tests.support.deployed import shop_app, shop_plan

EXAMPLE = "overlays/production/kustomization.yaml"


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the manifests of the shop."""
    done = write(tmp_path / "k8s", files_of(shop_plan()))
    assert sorted(done.written) == sorted(contents(tmp_path / "k8s"))
    assert (done.unchanged, done.kept, done.left) == ([], [], [])
    return tmp_path / "k8s"


def test_written_again_nothing_changes(folder: Path) -> None:
    """So that a review shows what the app's change made of it."""
    before = contents(folder)
    done = write(folder, files_of(shop_plan()))
    assert (done.written, done.kept, done.left) == ([], [], [])
    assert sorted(done.unchanged) == sorted(before)
    assert contents(folder) == before


def test_a_change_of_the_app_is_written(folder: Path) -> None:
    """Without asking, since nobody has edited these files."""
    done = write(folder, files_of(shop_plan(shop_app(concurrency=3))))
    assert "base/kustomization.yaml" in done.written
    assert "base/network.yaml" in done.unchanged


@pytest.mark.parametrize("text", ["# mine\n", "kind: Deployment\n", None])
def test_what_was_edited_is_not_overwritten(folder: Path, text: str | None) -> None:
    """Nor is anything else then: half of a change is worse than none."""
    edited = folder / "base/web.yaml"
    edited.write_text(edited.read_text() + "# one more line\n" if text is None else text)
    before = contents(folder)
    with pytest.raises(ConfigurationError, match=r"base/web\.yaml.*--force"):
        write(folder, files_of(shop_plan(shop_app(concurrency=3))))
    assert contents(folder) == before
    done = write(folder, files_of(shop_plan()), force=True)
    assert done.written == ["base/web.yaml"]
    assert "one more line" not in edited.read_text()


def test_a_file_that_is_no_text_is_somebody_elses(folder: Path) -> None:
    """And the answer is the same."""
    (folder / "base/web.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"base/web\.yaml"):
        write(folder, files_of(shop_plan()))


def test_the_example_is_its_readers_own(folder: Path) -> None:
    """It is there to be edited, and is not touched afterwards."""
    example = folder / EXAMPLE
    example.write_text(example.read_text().replace("count: 2", "count: 7"))
    done = write(folder, files_of(shop_plan(shop_app(concurrency=3))))
    assert done.kept == [EXAMPLE]
    assert "count: 7" in example.read_text()
    assert EXAMPLE in write(folder, files_of(shop_plan()), force=True).written
    assert "count: 7" not in example.read_text()


def test_what_belongs_to_a_queue_that_is_gone_is_told(folder: Path) -> None:
    """It is in no kustomization any more; removing it is the reviewer's, and other people's files
    are nobody's business."""
    (folder / "base/mine.yaml").write_text("kind: ConfigMap\n")
    app = App("shop", settings=shop_app().settings)

    @app.job(queue="receipts")
    async def nightly(days: int = 30, dry: bool = False) -> None: ...

    done = write(folder, files_of(shop_plan(app)))
    assert [path.partition("-high")[0] for path in done.left] == ["base/worker-photos"]
    assert (folder / done.left[0]).exists()

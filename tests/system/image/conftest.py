"""The image, built once, and its containers."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import ROOT
from tests.system.image.engine import Engine, Image, ImageMissingError, Place, build

BUILT = pytest.StashKey[str]()

# The first test waits for the build, and on a new machine for the base and the engine as well.
IMAGE_TEST_TIMEOUT = 900


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the image."""
    for item in items:
        if "images" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.image)
            item.add_marker(pytest.mark.timeout(IMAGE_TEST_TIMEOUT))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how large the image is, and how long it took."""
    if said := config.stash.get(BUILT, ""):
        terminalreporter.section("the image")
        terminalreporter.write_line(said)


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> dict[str, Image]:
    """The project's image, and the photo album's from it."""
    try:
        folder, said = build()
    except ImageMissingError as error:
        pytest.fail(str(error), pytrace=False)
    request.config.stash[BUILT] = said
    return {name: Image(folder, name) for name in ("amqpjobs", "amqpjobs-album")}


@pytest.fixture(scope="session")
def image(images: dict[str, Image]) -> Image:
    """The project's."""
    return images["amqpjobs"]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """What runs containers."""
    engine = Engine(tmp_path_factory.mktemp("crun"))
    yield engine
    engine.close()


@pytest.fixture
def place(engine: Engine, image: Image, tmp_path: Path) -> Callable[..., Place]:
    """Containers of the image with the tests' jobs in them, as an app of one's own is; and with
    /tmp/data, where these note what they do."""
    app, data = tmp_path / "app", tmp_path / "data"
    for name in ("support/jobs.py", "support/waiting.py", "system/image/jobs.py"):
        target = app / "tests" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / name, target)
    data.mkdir()
    data.chmod(0o777)

    def make(broker: VirtualHost | None = None, **settings: str) -> Place:
        defaults = {
            "AMQPJOBS_APP": "tests.system.image.jobs:app",
            "AMQPJOBS_RECONNECT_LIMIT": "1",
            "JOBS_LEDGER": "/tmp/data/ledger",
        }
        if broker is not None:
            defaults["AMQPJOBS_URL"] = broker.url
            defaults["AMQPJOBS_MANAGEMENT_URL"] = broker.server.management_url
        volumes = {"/app": app, "/tmp/data": data}
        return Place(engine, image, tmp_path, defaults | settings, volumes)

    return make

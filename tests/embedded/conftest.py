"""A model of the broker for each version."""

import pytest

from tests.embedded.model import Model


@pytest.fixture(params=["3.10", "4.3"])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


@pytest.fixture
def old() -> Model:
    return Model("3.10")


@pytest.fixture
def new() -> Model:
    return Model("4.3")

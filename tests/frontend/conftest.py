"""A real API for each task, on a model of a small table, and one that a test may stop."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Running, running
from visits import make_project


@pytest.fixture(scope="session", params=["binary", "multiclass", "regression"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]
) -> Iterator[Running]:
    """An API for each task in turn; leave it as it is."""
    folder = tmp_path_factory.mktemp("served") / request.param
    with running(make_project(folder, bundles[request.param])) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path, bundles: dict[str, Path]) -> Iterator[Running]:
    """An API that may be stopped."""
    with running(make_project(tmp_path / "project", bundles["binary"])) as started:
        yield started

"""A real API for each task, one that a test may stop, and a visitor in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Visit, chromium, voila
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


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def address(api: Running) -> Iterator[str]:
    """The page of the API that a file of tests calls `api`."""
    with voila(f"http://127.0.0.1:{api.port}") as address:
        yield address


@pytest.fixture
def visit(browser, address: str) -> Iterator[Visit]:
    """A tab, which in the end has asked no other host for anything, and complained of nothing."""
    made = Visit(browser, address)
    yield made
    made.close()
    assert made.foreign == []
    assert made.complaints == []

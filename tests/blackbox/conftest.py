"""Projects for people who type commands: copies of the one finished run, and of one that nothing has run in."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from project import STAGES, Done, Project, at_work_in


@pytest.fixture
def untouched(finished: tuple[Project, Done], copier: Callable[[Project], Project]) -> Iterator[Project]:
    """A finished project for one test."""
    yield from _lend(copier(finished[0]))


@pytest.fixture(scope="module")
def used(finished: tuple[Project, Done], copier: Callable[[Project], Project]) -> Iterator[Project]:
    """A finished project that the tests of one file use one after another."""
    yield from _lend(copier(finished[0]))


@pytest.fixture
def unrun(sources: Project, copier: Callable[[Project], Project]) -> Iterator[Project]:
    """A project that nothing has run in, for one test."""
    yield from _lend(copier(sources))


def _lend(project: Project) -> Iterator[Project]:
    yield project
    for process in at_work_in(project.root):
        process.kill()
    shutil.rmtree(project.root, ignore_errors=True)


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)

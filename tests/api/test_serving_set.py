"""The service needs nothing but `requirements/serve.txt`: here every other installed package is out of reach."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server import environment, mlops, running
from versions import NAME, forget_model, make_versions, open_at, register, tracking_server

from mlops_core.processes import free_port
from mlops_core.registry.champions import promote
from mlops_core.registry.runs import locked_requirements

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy

CHECKOUT = Path(__file__).parents[2]
# Python runs this before anything else; to it and all its children other packages look as if they were not installed.
ONLY_THESE = """
import importlib.machinery, importlib.metadata, pathlib, sys, sysconfig
names = {names!r}
places = {{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}}
allowed = set()
for name in names:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        continue  # for another platform
    allowed.update(str(distribution.locate_file(file)) for file in distribution.files)

class Only:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        origin = spec and spec.origin
        foreign = origin and any(origin.startswith(place + "/") for place in places) and origin not in allowed
        return None if foreign else spec

    @staticmethod
    def find_distributions(*context):
        found = importlib.machinery.PathFinder.find_distributions(*context)
        return (item for item in found if item.name.lower().replace("_", "-") in names)

    invalidate_caches = importlib.machinery.PathFinder.invalidate_caches

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Only
"""


@pytest.fixture(scope="module")
def only_these(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the environment must say for it."""
    folder = tmp_path_factory.mktemp("only")
    names = ["mlops-core", *(line.partition("=")[0] for line in locked_requirements(CHECKOUT, "serve.txt"))]
    (folder / "sitecustomize.py").write_text(ONLY_THESE.format(names=names))
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def bundles_of(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return make_versions(tmp_path_factory.mktemp("versions"))


@pytest.mark.parametrize("name", ["pandas", "sklearn", "scipy", "flask", "jupyter_core", "IPython", "dvc", "optuna"])
def test_what_serving_does_not_need_is_out_of_reach(only_these: dict[str, str], name: str) -> None:
    command = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 1, "it is not even installed"
    assert subprocess.run([sys.executable, "-c", command], env=environment(**only_these), check=False).returncode == 0


def follow(project: Path, uri: str, bundles: dict[int, Path], only_these: dict[str, str]) -> None:
    """Fetches the champion, answers, and follows the alias."""
    store = open_at(project, uri)
    for number in (1, 2):
        register(store, bundles[number])
    promote(store, NAME, 2, "the first")
    settings = {"MLOPS_TRACKING_URI": uri, "MLOPS_REFRESH_SECONDS": "600", **only_these}
    with running(forget_model(project), "/readyz", mlflow=True, **settings) as server:
        assert server.predict().json["model"] == {"name": NAME, "version": 2}
        done = mlops(project, "promote", "1", "--model", NAME, "--reason", "by command", **settings)
        assert (done.code, done.err) == (0, ""), done
        moved = server.request("POST", "/admin/model/reload", **server.bearer("root"))
        assert moved.json["model"]["version"] == 1 == server.predict().json["model"]["version"]
        assert "by command" in mlops(project, "models", **settings).out
        assert mlops(project, "rollback", "--model", NAME, "--reason", "worse", **settings).code == 0
        assert "Traceback" not in server.err + server.out


@pytest.mark.slow
def test_the_service_fetches_answers_and_follows_with_nothing_else_installed(
    project: Path, bundles_of: dict[int, Path], only_these: dict[str, str]
) -> None:
    follow(project, f"sqlite:///{project / 'mlflow.db'}", bundles_of, only_these)


@pytest.mark.slow
def test_it_does_so_from_a_tracking_server(
    project: Path, tmp_path: Path, bundles_of: dict[int, Path], only_these: dict[str, str]
) -> None:
    with tracking_server(tmp_path / "tracking", free_port()) as tracking:
        follow(project, tracking.uri, bundles_of, only_these)


REGISTER = """
import sys
from pathlib import Path
from tables import make_table
from mlops_core.registry.runs import DataRecord, RunRecord
from mlops_core.registry.store import open_store
from mlops_core.registry.versions import Registration, register
from mlops_core.settings import Settings
root, bundle = map(Path, sys.argv[1:])
store = open_store(root, Settings(tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))
data = DataRecord("small", "data.csv", "0" * 36, make_table("binary", 5), "outcome")
register(store, "small", Registration("small", bundle, "a run", {}), RunRecord("a run", {}, {}), data)
"""


def test_a_registered_version_asks_for_that_and_for_an_mlflow_that_can_load_it(
    tmp_path: Path, bundles_of: dict[int, Path]
) -> None:
    """The smaller mlflow that serving needs has no pandas, which `mlflow.pyfunc` hands every model."""
    (tmp_path / "requirements").mkdir()
    shutil.copy(CHECKOUT / "requirements" / "serve.txt", tmp_path / "requirements")
    command = [sys.executable, "-W", "ignore", "-c", REGISTER, str(tmp_path), str(bundles_of[1])]
    subprocess.run(command, env=environment(PYTHONPATH=str(CHECKOUT / "tests")), check=True, timeout=120)
    (written,) = tmp_path.rglob("requirements.txt")
    asked = {line.partition("==")[0] for line in written.read_text().splitlines()}
    assert {"mlflow", "mlflow-skinny", "onnxruntime", "numpy"} <= asked

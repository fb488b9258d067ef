"""What belongs into S3 goes there and comes back: MLflow as the AWS overlay starts it, and DVC; S3 is moto's."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from manifests import ROOT, containers
from sqlalchemy import create_engine, make_url

from mlops_core.processes import free_port

pytestmark = pytest.mark.slow
TOOLS = Path(sys.executable).parent
SECONDS = 120
NAMES = "{http://s3.amazonaws.com/doc/2006-03-01/}"
(MLFLOW,) = (item for item in containers() if (item.where, item.name) == ("kubernetes/aws", "mlflow"))
BUCKET = MLFLOW.plain["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://").split("/")[0]

REGISTER = """
import sys
from pathlib import Path
import pandas as pd
from mlops_core.registry.champions import promote
from mlops_core.registry.runs import DataRecord, RunRecord
from mlops_core.registry.store import open_store
from mlops_core.registry.versions import Registration, register
from mlops_core.settings import Settings
root, bundle, uri = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
store = open_store(root, Settings(tracking_uri=uri))
data = DataRecord("small", "data/small.parquet", "0" * 32, pd.DataFrame({"a": [1.0], "b": [2.0]}), "b")
item, record = Registration("small", bundle, "run-1", {}), RunRecord("small", {}, {"loss": 0.5})
version = register(store, "small", item, record, data)
promote(store, "small", version, "the first")
"""
FETCH = """
import json, sys
from pathlib import Path
from mlops_core.errors import MLOpsError
from mlops_core.registry.champions import fetch_bundle, require_champion
from mlops_core.registry.store import open_store
from mlops_core.settings import Settings
root, target, uri = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
store = open_store(root, Settings(tracking_uri=uri))
try:
    champion = require_champion(store, "small")
    print(json.dumps({"digest": fetch_bundle(store, "small", int(champion.version), target)["digest"]}))
except MLOpsError as error:
    print(json.dumps({"refused": type(error).__name__}))
"""


@contextlib.contextmanager
def started(command: list[str], url: str, environment: dict[str, str], folder: Path) -> Iterator[None]:
    """A server that answers at `url` while the block runs."""
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + SECONDS
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                    break
                time.sleep(0.1)
            else:
                pytest.fail((folder / "log.txt").read_text())
            yield
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which S3 is moto's, with the bucket that the overlay names."""
    url = f"http://127.0.0.1:{free_port()}"
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MLFLOW_", "MLOPS_", "PYTHON"))
    }
    environment = {
        **kept,
        "PATH": f"{TOOLS}{os.pathsep}{kept['PATH']}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": url,
        "MLFLOW_S3_ENDPOINT_URL": url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
    }
    command = [str(TOOLS / "moto_server"), "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with started(command, f"{url}/moto-api/", environment, tmp_path_factory.mktemp("moto")):
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=10).close()
        yield environment


def keys(s3: dict[str, str], prefix: str) -> list[str]:
    with urllib.request.urlopen(f"{s3['AWS_ENDPOINT_URL']}/{BUCKET}?list-type=2&prefix={prefix}", timeout=10) as answer:
        return [key.text or "" for key in ET.fromstring(answer.read()).iter(f"{NAMES}Key")]


def put(s3: dict[str, str], key: str, data: bytes) -> None:
    address = f"{s3['AWS_ENDPOINT_URL']}/{BUCKET}/{key}"
    someone = {"authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
    urllib.request.urlopen(urllib.request.Request(address, data, someone, method="PUT"), timeout=10).close()


@pytest.fixture(scope="module")
def registry(s3, postgres, tmp_path_factory) -> Iterator[str]:
    """MLflow with the overlay's own words and variables; only addresses differ."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE s3_mlflow")
    engine.dispose()
    port = free_port()
    here = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    here["--allowed-hosts=mlflow:5000"] = f"--allowed-hosts=127.0.0.1:{port}"
    command = [here.get(word, word) for word in MLFLOW.command]
    assert set(here.values()) <= set(command)
    database = make_url(postgres).set(database="s3_mlflow").render_as_string(hide_password=False)
    environment = {**s3, **MLFLOW.plain, "MLFLOW_BACKEND_STORE_URI": database}
    url = f"http://127.0.0.1:{port}"
    with started(command, f"{url}/health", environment, tmp_path_factory.mktemp("mlflow")):
        yield url


def talk(script: str, s3: dict[str, str], *arguments: object) -> str:
    """What a process that knows the registry's address, and no key of S3, prints."""
    environment = {key: value for key, value in s3.items() if not key.startswith("AWS_")}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def registered(s3, registry, bundles, tmp_path_factory) -> Path:
    """A project whose champion lies in S3."""
    root = tmp_path_factory.mktemp("project")
    (root / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "serve.txt", root / "requirements")
    talk(REGISTER, s3, root, shutil.copytree(bundles["binary"], root / "bundle"), registry)
    shutil.rmtree(root / "bundle")
    return root


def test_a_champion_comes_back_from_s3_as_it_was_registered(s3, registry, registered, bundles, tmp_path):
    assert any(key.endswith("/bundle/model.onnx") for key in keys(s3, "mlflow/"))
    assert list(registered.rglob("model.onnx")) == []
    answer = json.loads(talk(FETCH, s3, registered, tmp_path / "copy", registry))
    assert len(answer["digest"]) == 64
    for file in bundles["binary"].iterdir():
        assert (tmp_path / "copy" / file.name).read_bytes() == file.read_bytes()


def test_a_champion_that_was_changed_in_s3_is_refused(s3, registry, registered, bundles, tmp_path):
    (key,) = (key for key in keys(s3, "mlflow/") if key.endswith("/bundle/constants.json"))
    put(s3, key, b"{}")
    try:
        assert json.loads(talk(FETCH, s3, registered, tmp_path / "copy", registry)) == {"refused": "BundleError"}
    finally:
        put(s3, key, (bundles["binary"] / "constants.json").read_bytes())


@pytest.mark.parametrize("source", ["s3://elsewhere/model", "file:///etc", "http://127.0.0.1:1/model"])
def test_the_registry_takes_no_model_from_elsewhere(registry, registered, source):
    body = json.dumps({"name": "small", "source": source}).encode()
    address = f"{registry}/api/2.0/mlflow/model-versions/create"
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=30)
    assert refusal.value.code == 400
    refusal.value.close()


def test_the_registry_answers_to_its_name_only(registry):
    for host, status in (("elsewhere.example", 403), (registry.removeprefix("http://"), 200)):
        request = urllib.request.Request(
            f"{registry}/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": host}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = answer.status
        except urllib.error.HTTPError as refusal:
            found = refusal.code
            refusal.close()
        assert (host, found) == (host, status)


def test_data_that_were_pushed_to_s3_come_back_after_a_loss(s3, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    environment = {**s3, "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}

    def dvc(*words: str) -> None:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr

    dvc("init", "--no-scm", "-q")
    dvc("remote", "add", "-d", "store", f"s3://{BUCKET}/dvc")
    dvc("remote", "modify", "store", "endpointurl", s3["AWS_ENDPOINT_URL"])
    (project / "table.csv").write_text("a,b\n1,2\n")
    dvc("add", "table.csv", "-q")
    dvc("push", "-q")
    assert len(keys(s3, "dvc/files/md5/")) == 1
    shutil.rmtree(project / ".dvc" / "cache")
    (project / "table.csv").unlink()
    dvc("pull", "-q")
    assert (project / "table.csv").read_text() == "a,b\n1,2\n"
    assert "testing" not in (project / ".dvc" / "config").read_text()

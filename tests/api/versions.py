"""Registered versions that answer differently, in a real MLflow store: a SQLite file, or a server of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from server import environment
from tables import dataset_tree, fit, make_bundle, make_table

from mlops_core.datasets import build_dataset
from mlops_core.estimators import build_estimator
from mlops_core.preprocess import build_schema, encode_table, encode_target
from mlops_core.registry.champions import DIGEST, list_models
from mlops_core.registry.store import Store, open_experiment, open_store
from mlops_core.serve.bundle import bundle_digest, read_constants
from mlops_core.serve.predictor import Predictor, load_predictor
from mlops_core.settings import Settings
from mlops_core.train.export import export_onnx
from mlops_core.train.package import write_bundle

NAME = "small"


def make_versions(folder: Path) -> dict[int, Path]:
    """Bundles of one table: a model, the same with another calibration, and one that sees the columns otherwise."""
    constants = read_constants(make_bundle("binary", folder / "1"))
    schema, model, table = fit("binary")
    graph = export_onnx(model, len(schema.inputs))
    shifted = replace(constants, calibration_offset=[0.0, 3.0])
    write_bundle(folder / "2", graph, schema, shifted, table, background=20, seed=1)
    tree = dataset_tree("binary")
    tree["columns"] = dict(reversed(tree["columns"].items()))
    tree["columns"]["at"]["derive"] = ["month"]
    table = make_table("binary", 400, seed=5)
    table = table[table["kind"] != "u"]
    schema = build_schema(build_dataset(NAME, tree), table)  # its matrix would not even fit into the others' graph
    model = build_estimator("logistic", schema, {}, seed=2)
    model.fit(encode_table(schema, table), encode_target(schema, table))
    write_bundle(folder / "3", export_onnx(model, len(schema.inputs)), schema, constants, table, background=20, seed=2)
    return {number: folder / str(number) for number in (1, 2, 3)}


def make_rows(count: int) -> list[dict[str, Any]]:
    """Rows as a client writes them, with missing values."""
    table = make_table("binary", count, seed=9).drop(columns=["ticket", "outcome", "later"])
    plain = table.astype(object)
    plain["at"] = table["at"].dt.strftime("%Y-%m-%d %H:%M:%S")
    rows: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict(orient="records")
    return rows


@dataclass(frozen=True)
class Known:
    """A bundle, and what it answers."""

    bundle: Path
    predictor: Predictor

    def probabilities(self, row: dict[str, Any]) -> dict[str, float]:
        answer, problems = self.predictor.predict_columns({name: [value] for name, value in row.items()}, 1)
        assert not problems, problems[0]
        return dict(zip(self.predictor.schema.classes, answer[0].tolist(), strict=True))


def know(bundles: dict[int, Path]) -> dict[int, Known]:
    return {number: Known(bundle, load_predictor(bundle)) for number, bundle in bundles.items()}


def register(store: Store, bundle: Path) -> int:
    """A version with the run that made it; its files go where the store wants them."""
    if NAME not in list_models(store):
        store.client.create_registered_model(NAME)
    run = store.client.create_run(open_experiment(store, NAME))
    store.client.log_artifacts(run.info.run_id, str(bundle), "model/artifacts/bundle")
    store.client.log_metric(run.info.run_id, "log_loss", 0.5)
    source, tags = f"{run.info.artifact_uri}/model", {DIGEST: bundle_digest(bundle)}
    version = store.client.create_model_version(NAME, source, run_id=run.info.run_id, tags=tags)
    return int(version.version)


def open_at(root: Path, uri: str) -> Store:
    return open_store(root, Settings(tracking_uri=uri))


@dataclass
class TrackingServer:
    """A real `mlflow server` that may be killed and started again on its port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, seconds: float = 60) -> None:
        self.folder.mkdir(exist_ok=True)
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as out:
            self.process = subprocess.Popen(
                command, env=environment(**quiet), stdout=out, stderr=out, start_new_session=True
            )
        end = time.monotonic() + seconds
        while not self._answers():
            gone = self.process.poll() is not None or time.monotonic() > end
            assert not gone, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """Ends it and its workers, as a power cut would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None


@contextlib.contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[TrackingServer]:
    server = TrackingServer(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def forget_model(root: Path) -> Path:
    """A project that has never served."""
    shutil.rmtree(root / ".mlops" / "serving")
    return root

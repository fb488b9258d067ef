"""Registers versions: exactly one per pipeline run, however often a run is repeated."""

from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import ColSpec
from mlflow.types import Schema as MlflowSchema

from mlops_core.database import store_lock
from mlops_core.features import NUMERIC, Schema
from mlops_core.paths import state_dir
from mlops_core.registry.champions import DIGEST, EVALUATION, EVALUATION_DIGEST
from mlops_core.registry.runs import DataRecord, RunRecord, locked_requirements, log_run
from mlops_core.registry.store import Store, translated
from mlops_core.serve.bundle import file_sha256, verify_bundle
from mlops_core.serve.predictor import read_schema_json

RUN_TAG = "pipeline_run_id"
MLFLOW_TYPES = {"number": "double", "integer": "double", "datetime": "datetime", "boolean": "boolean"}


@dataclass(frozen=True)
class Decision:
    """What became of a version, and why."""

    version: int
    champion: int
    promoted: bool
    reason: str


@dataclass(frozen=True)
class Registration:
    """What is registered: a sealed bundle with the identity of the run that made it."""

    name: str
    bundle: Path
    pipeline_run_id: str
    tags: Mapping[str, str]

    @property
    def evaluation(self) -> Path | None:
        """The record of its scores, where one lies beside it."""
        file = self.bundle.with_name(EVALUATION.name)
        return file if file.is_file() else None


def find_version(store: Store, name: str, pipeline_run_id: str) -> ModelVersion | None:
    """The version that this pipeline run registered, or None."""
    with translated(store.uri):
        versions = store.client.search_model_versions(f"name = '{name}' and tags.{RUN_TAG} = '{pipeline_run_id}'")
    return versions[0] if versions else None


def signature_of(schema: Schema) -> ModelSignature:
    """What MLflow's clients check: every column, optional where it may be missing."""
    inputs = [
        ColSpec(MLFLOW_TYPES.get(column.type, "string"), column.name, required=column.required)
        for column in schema.columns
    ]
    return ModelSignature(inputs=MlflowSchema(inputs))


def example_of(schema: Schema) -> pd.DataFrame:
    """One valid row."""
    row: dict[str, Any] = {column.name: [column.example] for column in schema.columns if column.example is not None}
    for column in schema.columns:
        if column.name in row and column.type == "datetime":
            row[column.name] = pd.to_datetime(row[column.name])
        if column.name in row and column.type in NUMERIC:
            row[column.name] = [float(column.example)]  # MLflow makes no double of an integer
    return pd.DataFrame(row)


def register(store: Store, experiment: str, item: Registration, record: RunRecord, data: DataRecord) -> int:
    """Logs the run and registers its bundle, with its evaluation; a second call for the same run gives its version."""
    digest = verify_bundle(item.bundle)
    with store_lock(f"sqlite:///{state_dir(store.root) / 'registry'}", state_dir(store.root)):
        known = find_version(store, item.name, item.pipeline_run_id)
        if known:
            return int(known.version)
        run_id = log_run(store, experiment, record, data)
        schema = read_schema_json(item.bundle)
        tags = {RUN_TAG: item.pipeline_run_id, DIGEST: digest, **item.tags}
        artifacts = {"bundle": str(item.bundle)}
        if item.evaluation:
            tags[EVALUATION_DIGEST] = file_sha256(item.evaluation)
            artifacts["evaluation"] = str(item.evaluation)
        with translated(store.uri), mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts=artifacts,
                signature=signature_of(schema),
                input_example=example_of(schema),
                pip_requirements=[f"mlflow=={mlflow.__version__}", *locked_requirements(store.root, "serve.txt")],
            )
            # Tags go on as the version is made: a version without its run id could be registered twice.
            with redirect_stderr(StringIO()):  # it announces the version there, whatever the log level
                version = mlflow.register_model(info.model_uri, item.name, tags=tags)
    return int(version.version)

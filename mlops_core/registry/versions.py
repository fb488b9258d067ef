"""Registered versions and the champion alias: one version per pipeline run, promoted only when it is better."""

from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec
from mlflow.types import Schema as MlflowSchema

from mlops_core.database import store_lock
from mlops_core.errors import MLOpsError
from mlops_core.features import Schema
from mlops_core.paths import state_dir
from mlops_core.registry.runs import DataRecord, RunRecord, locked_requirements, log_run
from mlops_core.registry.store import Store, translated
from mlops_core.serve.bundle import verify_bundle
from mlops_core.serve.predictor import read_schema_json

CHAMPION = "champion"
RUN_TAG = "pipeline_run_id"
MLFLOW_TYPES = {"number": "double", "integer": "double", "datetime": "datetime", "boolean": "boolean"}


class ModelNotFoundError(MLOpsError):
    """Nothing is registered under this name, or the alias points nowhere."""

    def __init__(self, name: str, alias: str) -> None:
        self.name, self.alias = name, alias
        super().__init__(
            f"No version of model '{name}' has the alias '{alias}'. Train one with: mlops run --dataset {name}"
        )


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


def get_version(store: Store, name: str, alias: str) -> ModelVersion | None:
    """The version behind an alias, or None."""
    try:
        with translated(store.uri):
            return store.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def get_champion(store: Store, name: str) -> ModelVersion | None:
    return get_version(store, name, CHAMPION)


def require_version(store: Store, name: str, alias: str = CHAMPION) -> ModelVersion:
    """The same; raises ModelNotFoundError."""
    version = get_version(store, name, alias)
    if version is None:
        raise ModelNotFoundError(name, alias)
    return version


def list_models(store: Store) -> list[str]:
    """Names of all registered models."""
    with translated(store.uri):
        return sorted(model.name for model in store.client.search_registered_models())


def find_version(store: Store, name: str, pipeline_run_id: str) -> ModelVersion | None:
    """The version that this pipeline run registered, or None."""
    with translated(store.uri):
        versions = store.client.search_model_versions(f"name = '{name}' and tags.{RUN_TAG} = '{pipeline_run_id}'")
    return versions[0] if versions else None


def list_versions(store: Store, name: str) -> list[ModelVersion]:
    """Newest first."""
    with translated(store.uri):
        versions = store.client.search_model_versions(f"name = '{name}'")
    return sorted(versions, key=lambda version: -int(version.version))


def fetch_bundle(store: Store, name: str, version: int) -> Path:
    """The verified bundle of a version, on this machine. Raises BundleError."""
    with translated(store.uri):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}")) / "artifacts" / "bundle"
    verify_bundle(folder)
    return folder


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
    return pd.DataFrame(row)


def register(store: Store, experiment: str, item: Registration, record: RunRecord, data: DataRecord) -> int:
    """Logs the run and registers its bundle; a second call for the same pipeline run returns the same version."""
    digest = verify_bundle(item.bundle)
    with store_lock(f"sqlite:///{state_dir(store.root) / 'registry'}", state_dir(store.root)):
        known = find_version(store, item.name, item.pipeline_run_id)
        if known:
            return int(known.version)
        run_id = log_run(store, experiment, record, data)
        schema = read_schema_json(item.bundle)
        tags = {RUN_TAG: item.pipeline_run_id, "bundle_sha256": digest, **item.tags}
        with translated(store.uri), mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"bundle": str(item.bundle)},
                signature=signature_of(schema),
                input_example=example_of(schema),
                pip_requirements=locked_requirements(store.root, "serve.txt"),
            )
            # Tags go on as the version is made: a version without its run id could be registered twice.
            with redirect_stderr(StringIO()):  # it announces the version there, whatever the log level
                version = mlflow.register_model(info.model_uri, item.name, tags=tags)
    return int(version.version)


def promote(store: Store, name: str, version: int, reason: str) -> None:
    """Moves the champion alias and records why on the version."""
    with translated(store.uri):
        store.client.set_model_version_tag(name, str(version), "promotion_reason", reason)
        store.client.set_registered_model_alias(name, CHAMPION, str(version))

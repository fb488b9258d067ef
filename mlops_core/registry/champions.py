"""The champion alias: which version it names, what it named before, and why it was moved.

MLOpsError
├── ModelNotFoundError
└── NothingBeforeError

Light enough for the process that feeds the API: neither pandas nor scikit-learn is imported here.
"""

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mlops_core.errors import RequestError
from mlops_core.registry.store import Store, translated
from mlops_core.serve.bundle import BundleError, file_sha256, verify_bundle
from mlops_core.serve.predictor import load_predictor

CHAMPION = "champion"
BUNDLE = Path("artifacts", "bundle")  # where MLflow keeps it inside a model version
EVALUATION = Path("artifacts", "evaluation.json")
DIGEST, EVALUATION_DIGEST, REASON, PROMOTED_AT, REPLACED, WITHDRAWN = (
    "bundle_sha256",
    "evaluation_sha256",
    "promotion_reason",
    "promoted_at",
    "replaced_version",
    "withdrawn",
)


class ModelNotFoundError(RequestError):
    """Nothing is registered under this name, or the alias points nowhere."""

    def __init__(self, name: str, what: str) -> None:
        self.name, self.what = name, what
        super().__init__(f"Model '{name}' has no {what}. See: mlops models. Train one with: mlops run --dataset {name}")


class NothingBeforeError(RequestError):
    """A rollback from the first champion."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version = name, version
        super().__init__(f"Version {version} of '{name}' is the first champion: there is nothing to go back to.")


def get_version(store: Store, name: str, alias: str) -> ModelVersion | None:
    """The version behind an alias, or None."""
    return _lookup(store, lambda: store.client.get_model_version_by_alias(name, alias))


def _lookup(store: Store, ask: Any) -> ModelVersion | None:
    try:
        with translated(store.uri):
            found: ModelVersion = ask()
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return found


def get_champion(store: Store, name: str) -> ModelVersion | None:
    return get_version(store, name, CHAMPION)


def require_champion(store: Store, name: str, alias: str = CHAMPION) -> ModelVersion:
    """The version behind an alias; raises ModelNotFoundError."""
    found = get_version(store, name, alias)
    if found is None:
        raise ModelNotFoundError(name, f"version with the alias '{alias}'")
    return found


def _require(store: Store, name: str, version: int) -> ModelVersion:
    found = _lookup(store, lambda: store.client.get_model_version(name, str(version)))
    if found is None:
        raise ModelNotFoundError(name, f"version {version}")
    return found


def find_tag(store: Store, name: str, version: int, tag: str) -> str:
    """A tag of a version, or nothing."""
    found = _lookup(store, lambda: store.client.get_model_version(name, str(version)))
    return str(found.tags.get(tag, "")) if found else ""


def list_models(store: Store) -> list[str]:
    """Names of all registered models."""
    with translated(store.uri):
        return sorted(model.name for model in store.client.search_registered_models())


def list_versions(store: Store, name: str) -> list[ModelVersion]:
    """Newest first."""
    with translated(store.uri):
        versions = store.client.search_model_versions(f"name = '{name}'")
    return sorted(versions, key=lambda version: -int(version.version))


def describe_version(store: Store, version: ModelVersion) -> dict[str, Any]:
    """What people ask of a version: when and why, and the scores its run logged."""
    with translated(store.uri):
        metrics = store.client.get_run(version.run_id).data.metrics if version.run_id else {}
    return {
        "version": int(version.version),
        "registered_at": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "metrics": dict(sorted(metrics.items())),
        "digest": version.tags.get(DIGEST, ""),
        "reason": version.tags.get(REASON, ""),
        "promoted_at": version.tags.get(PROMOTED_AT, ""),
        "withdrawn": version.tags.get(WITHDRAWN, ""),
    }


def locate_bundle(store: Store, name: str, version: int) -> Path:
    """The verified bundle of a version: in a local store itself, else a temporary copy.

    Raises BundleError, and ModelNotFoundError for an unknown version.
    """
    _require(store, name, version)
    with translated(store.uri):
        folder = Path(download_artifacts(f"models:/{name}/{version}", tracking_uri=store.uri)) / BUNDLE
    verify_bundle(folder)
    return folder


def _read_evaluation(file: Path, digest: str) -> dict[str, Any]:
    """The record of a version's scores as `evaluation`; without a sound one, the reason as `no_evaluation`."""
    if not digest:
        return {"no_evaluation": "it was registered without one"}
    if not file.is_file() or file_sha256(file) != digest:
        return {"no_evaluation": "the one that was registered is missing or damaged"}
    return {"evaluation": json.loads(file.read_bytes())}


def fetch_bundle(store: Store, name: str, version: int, target: Path) -> dict[str, Any]:
    """Copies a version's bundle to `target`, which must not exist, and tries it there.

    Returns the version's description with its evaluation, or why it has none: that is no reason to refuse a version.

    Raises BundleError unless every file is what training wrote, the digest is the registered one and the golden rows
    get their answers; ModelNotFoundError for an unknown version.
    """
    found = _require(store, name, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder, translated(store.uri):
        download_artifacts(f"models:/{name}/{version}", dst_path=folder, tracking_uri=store.uri)
        shutil.move(Path(folder) / BUNDLE, target)
        evaluation = _read_evaluation(Path(folder) / EVALUATION, found.tags.get(EVALUATION_DIGEST, ""))
    if load_predictor(target).digest != found.tags.get(DIGEST):
        raise BundleError(target, "it is not the bundle that was registered")
    return {**describe_version(store, found), **evaluation}


def promote(store: Store, name: str, version: int, reason: str) -> None:
    """Moves the champion alias, and records on the version why, when, and which one it replaces."""
    champion = get_champion(store, name)
    tags = {REASON: reason, PROMOTED_AT: datetime.now(UTC).isoformat(timespec="seconds"), WITHDRAWN: ""}
    if champion and int(champion.version) != version:
        tags[REPLACED] = champion.version
    _move(store, name, version, tags)


def roll_back(store: Store, name: str, reason: str) -> int:
    """Gives the alias back to the version that the champion replaced, and returns it.

    The champion is marked as withdrawn: no later run promotes it again by itself. Raises NothingBeforeError.
    """
    champion = require_champion(store, name)
    before = champion.tags.get(REPLACED)
    if not before:
        raise NothingBeforeError(name, int(champion.version))
    with translated(store.uri):
        store.client.set_model_version_tag(name, champion.version, WITHDRAWN, reason)
    why = f"rolled back from version {champion.version}: {reason}"
    _move(store, name, int(before), {REASON: why, PROMOTED_AT: datetime.now(UTC).isoformat(timespec="seconds")})
    return int(before)


def _move(store: Store, name: str, version: int, tags: dict[str, str]) -> None:
    with translated(store.uri):
        for key, value in tags.items():
            store.client.set_model_version_tag(name, str(version), key, value)
        store.client.set_registered_model_alias(name, CHAMPION, str(version))

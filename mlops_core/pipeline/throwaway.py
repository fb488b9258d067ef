"""A registry that nobody will miss, with versions to change between: lessons on serving leave the real one alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from mlops_core.explain import build_background, load_background, save_background
from mlops_core.paths import Paths
from mlops_core.pipeline.registration import data_record
from mlops_core.preprocess import read_split
from mlops_core.registry.runs import RunRecord
from mlops_core.registry.store import Store, open_store
from mlops_core.registry.versions import Registration, register
from mlops_core.serve.bundle import bundle_digest, constants_to_json, dump_json, write_manifest
from mlops_core.serve.predictor import load_predictor, read_schema_json
from mlops_core.settings import Settings

EXPERIMENT = "rehearsal"


def open_registry(folder: Path) -> Store:
    """A SQLite store in a throwaway project, whatever `MLOPS_TRACKING_URI` says."""
    return open_store(folder, Settings(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').as_posix()}"))


def register_copy(store: Store, paths: Paths, bundle: Path) -> int:
    """Registers a bundle as experiment 05 does, with the evaluation that may lie beside it; its version."""
    target = read_schema_json(bundle).target
    data = data_record(paths, "test", read_split(paths.processed, "test"), target, "rehearsal")
    item = Registration(paths.dataset, bundle, bundle_digest(bundle)[:16], {})
    return register(store, EXPERIMENT, item, RunRecord("rehearsal", {}, {}), data)


def spoil_bundle(bundle: Path, folder: Path) -> Path:
    """A sound bundle with other answers, in `folder/bundle`: no calibration, sets or intervals twice as wide."""
    folder = folder / bundle.name  # the registry keeps a bundle under its folder's name
    shutil.copytree(bundle, folder)
    whole = load_predictor(bundle)
    constants = replace(whole.constants, calibration_offset=None, conformal=2 * whole.constants.conformal)
    spoilt = replace(whole, constants=constants)
    golden = json.loads((bundle / "golden.json").read_bytes())
    answers, _ = spoilt.predict_columns(golden["columns"], golden["rows"])
    (folder / "constants.json").write_bytes(constants_to_json(constants))
    (folder / "golden.json").write_bytes(dump_json({**golden, "answers": answers.tolist()}))
    save_background(build_background(spoilt, load_background(bundle).rows), folder)
    write_manifest(folder)
    return folder

"""The files of a served model and the proof that they are what training wrote."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlops_core.errors import MLOpsError

FORMAT = 3
MANIFEST = "manifest.json"
FILES = ("model.onnx", "schema.json", "constants.json", "explainer.npz", "golden.json")


class BundleError(MLOpsError):
    """A bundle that must not be served."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(f"Bundle {folder.name}: {problem}. Train it again, or restore it with: dvc checkout")


@dataclass(frozen=True)
class Constants:
    """What turns the graph's raw answer into the served one."""

    calibration_slope: float = 1.0
    calibration_offset: list[float] | None = None
    conformal: float = 1.0
    coverage: float = 0.9
    threshold: float | None = None
    importance: dict[str, float] | None = None


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def dump_json(tree: Any) -> bytes:
    """JSON whose bytes depend on its content alone."""
    return (json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_manifest(folder: Path) -> str:
    """Seals the bundle: the sha256 of every file. Returns the bundle's digest, that of the manifest."""
    sums = {name: file_sha256(folder / name) for name in FILES}
    (folder / MANIFEST).write_bytes(dump_json({"format": FORMAT, "files": sums}))
    return bundle_digest(folder)


def bundle_digest(folder: Path) -> str:
    """One hash that names the whole bundle."""
    return file_sha256(folder / MANIFEST)


def verify_bundle(folder: Path) -> str:
    """The bundle's digest. Raises BundleError unless exactly the manifest's files are there, byte for byte."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise BundleError(folder, f"{MANIFEST} is missing or no plain file")
    try:
        manifest = json.loads(path.read_bytes())
        sums = dict(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise BundleError(folder, f"{MANIFEST} is not readable") from None
    if manifest.get("format") != FORMAT:
        raise BundleError(folder, f"its format is {manifest.get('format')}, this version reads {FORMAT}")
    found = {item.name for item in folder.iterdir()}
    if found != set(FILES) | {MANIFEST} or set(sums) != set(FILES):
        strange = sorted(found ^ (set(FILES) | {MANIFEST})) or sorted(set(sums) ^ set(FILES))
        raise BundleError(folder, f"{strange[0]} is missing or does not belong there")
    for name, expected in sums.items():
        plain = (folder / name).is_file() and not (folder / name).is_symlink()
        if not plain or file_sha256(folder / name) != expected:
            raise BundleError(folder, f"{name} is not what the manifest says")
    return bundle_digest(folder)


def read_constants(folder: Path) -> Constants:
    return Constants(**json.loads((folder / "constants.json").read_bytes()))


def constants_to_json(constants: Constants) -> bytes:
    return dump_json(asdict(constants))

"""Re-hashes the source, and what the run wrote: outputs against dvc.lock, the cache against its names, bundles.

DVC itself trusts its cache and its record of file times; a flipped byte can pass both.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlops_core.datasets import load_dataset
from mlops_core.errors import MLOpsError
from mlops_core.paths import Paths
from mlops_core.serve.bundle import BundleError, verify_bundle
from mlops_core.sources import SourceError, read_verified

CHUNK = 1 << 20


class LockFileError(MLOpsError):
    """dvc.lock cannot be read."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"dvc.lock {problem}; restore it with: git checkout dvc.lock, "
            "or rebuild it with: rm -f dvc.lock && mlops run"
        )


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, and what mends it."""

    what: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}. Fix: {self.fix}"


def file_md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def folder_md5(path: Path) -> str:
    """DVC's name of a folder: the md5 of the list of its files, as `<md5>.dir`."""
    files = sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.relative_to(path).parts)
    listing = [{"md5": file_md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def read_lock(root: Path, dataset: str | None = None) -> dict[str, dict[str, str]]:
    """By stage: output path and its recorded hash; only of stages that last ran for a dataset, if one is named.

    Raises LockFileError.
    """
    try:
        tree = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        stages = tree["stages"].items()
        if not all(body["cmd"] and all(dep["path"] and dep["md5"] for dep in body["deps"]) for _, body in stages):
            raise LockFileError("is damaged")
        return {
            stage: {out["path"]: out["md5"] for out in body.get("outs", [])}
            for stage, body in stages
            if dataset is None or body["params"]["params.yaml"]["dataset"] == dataset
        }
    except FileNotFoundError:
        raise LockFileError("is missing") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise LockFileError("is damaged") from None


def is_restorable(root: Path, dataset: str) -> bool:
    """Whether `dvc checkout` succeeds: each output of the dataset is recorded and cached. Raises LockFileError."""
    recorded = {name: md5 for outputs in read_lock(root).values() for name, md5 in outputs.items()}
    tree = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8").replace("${dataset}", dataset))
    names = [name for stage in tree["stages"].values() for name in stage.get("outs", [])]
    return all(name in recorded and _cached(root, recorded[name]).is_file() for name in names)


def check_outputs(root: Path) -> Iterator[Finding]:
    """Every output of every stage that is missing or differs from dvc.lock; in a folder, the very files."""
    for stage, outputs in read_lock(root).items():
        for name, recorded in outputs.items():
            path = root / name
            if not path.exists():
                yield Finding(name, "is missing", "dvc checkout, or mlops run")
            elif (folder_md5(path) if path.is_dir() else file_md5(path)) != recorded:
                for file in _differing(root, path, recorded):
                    yield Finding(
                        file, f"is not what stage '{stage}' wrote", "dvc checkout --force, or mlops run --force"
                    )


def _differing(root: Path, path: Path, recorded: str) -> list[str]:
    name = path.relative_to(root).as_posix()
    listing = _cached(root, recorded)
    if not path.is_dir() or not listing.is_file():
        return [name]
    expected = {item["relpath"]: item["md5"] for item in json.loads(listing.read_bytes())}
    found = {file.relative_to(path).as_posix(): file_md5(file) for file in path.rglob("*") if file.is_file()}
    return [f"{name}/{file}" for file in sorted(expected | found) if expected.get(file) != found.get(file)] or [name]


def _cached(root: Path, md5: str) -> Path:
    return root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def check_cache(root: Path) -> Iterator[Finding]:
    """Every cached object whose content is not what its name says."""
    folder = root / ".dvc" / "cache" / "files" / "md5"
    for path in sorted(folder.glob("??/*")):
        if (
            path.is_file()
            and path.name[-4:] != ".tmp"
            and file_md5(path) != (path.parent.name + path.name).removesuffix(".dir")
        ):
            yield Finding(
                path.relative_to(root).as_posix(), "is a damaged copy in the cache", "delete it, then mlops run"
            )


def check_bundle(paths: Paths) -> Iterator[Finding]:
    """The bundle on disk against its manifest."""
    try:
        if paths.bundle.exists():
            verify_bundle(paths.bundle)
    except BundleError as error:
        yield Finding(paths.relative(paths.bundle), error.problem, "dvc checkout --force, or mlops run --force")


def check_declared(paths: Paths) -> Iterator[Finding]:
    """Source files that are not the declared ones."""
    spec = load_dataset(paths.dataset, paths.root)
    for table in spec.tables().values():
        source = paths.root / spec.folder() / table.file
        try:
            read_verified(source, table.sha256)
        except SourceError as error:
            problem = error.problem.partition(";")[0].partition(".")[0]
            yield Finding(paths.relative(source), problem, "restore it, or declare it as it is now: mlops init again")


def verify_files(paths: Paths) -> list[Finding]:
    """Everything that differs on disk; the registered copy is checked by `registry`."""
    return [*check_outputs(paths.root), *check_cache(paths.root), *check_bundle(paths)]

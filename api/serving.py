"""The model that answers: a private verified copy, swapped in one step, kept for days without a registry."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from api.registry import RegistryError
from mlops_core.errors import MLOpsError
from mlops_core.explain import load_background
from mlops_core.serve.bundle import BundleError
from mlops_core.serve.predictor import Predictor, load_predictor
from mlops_core.shapley import Background

log = structlog.get_logger("api.serving")

FIRST_BACKOFF_SECONDS = 5.0
MAX_BACKOFF_SECONDS = 300.0
POINTER = "current.json"


class NoModelError(MLOpsError):
    """Nothing verified is loaded yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"No verified version of model '{name}' is loaded yet. Train one with: mlops run")


class Registry(Protocol):
    """Where champions come from; every call may take seconds, and may fail."""

    def champion(self, name: str, alias: str) -> int | None:
        """The version behind the alias, or None."""

    def fetch(self, name: str, version: int, target: Path) -> dict[str, Any]:
        """Copies a version's bundle to `target`, a folder that does not exist yet; returns what is known of it."""

    def versions(self, name: str) -> list[dict[str, Any]]:
        """All versions, newest first."""

    def roll_back(self, name: str, reason: str) -> int:
        """Gives the alias back to the version that the champion replaced, and returns that one."""

    def close(self) -> None:
        """Called once, when the service ends."""


def _reason(error: Exception) -> str:
    """What everybody may read: what is wrong with a bundle, of other errors the kind alone."""
    if isinstance(error, BundleError):
        return error.problem
    if isinstance(error, RegistryError):
        return error.detail if error.kind == BundleError.__name__ else error.kind
    return type(error).__name__


@dataclass(frozen=True)
class Served:
    """One version, verified and open."""

    name: str
    alias: str
    version: int
    predictor: Predictor
    background: Background
    facts: dict[str, Any]  # from the registry: scores, when it was registered, why it was promoted
    loaded_at: float = field(default_factory=time.time)


@dataclass
class ModelSlot:
    """What is served now, and what is known of the registry. A swap is one assignment: no request sees half of it."""

    name: str
    alias: str
    folder: Path
    registry: Registry
    current: Served | None = None
    refused: dict[int, str] = field(default_factory=dict)
    registry_down_since: float | None = None
    _retry_at: dict[int, float] = field(default_factory=dict)
    _failures: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def require(self) -> Served:
        """The served model. Raises NoModelError."""
        if self.current is None:
            raise NoModelError(self.name)
        return self.current

    def load_local(self) -> bool:
        """Opens the copy that was served last, so that a restart needs no registry; False without a good one."""
        try:
            pointer = json.loads((self.folder / POINTER).read_bytes())
            self.current = self._open(int(pointer["version"]), dict(pointer["facts"]))
        except (OSError, ValueError, KeyError, TypeError, BundleError) as error:
            log.info("no local model", reason=str(error).splitlines()[0] if str(error) else type(error).__name__)
            return False
        return True

    def refresh(self, now: Callable[[], float] = time.time, *, retry: bool = False) -> bool:
        """Follows the alias if it moved; says whether another version is served now. Never raises for a bad version.

        One refresh at a time; a version that was refused is tried again only after a growing pause, or with `retry`.
        """
        with self._lock:
            try:
                wanted = self.registry.champion(self.name, self.alias)
            except Exception as error:
                self.registry_down_since = self.registry_down_since or now()
                log.warning("registry unreachable", error=str(error), since=self.registry_down_since)
                return False
            self.registry_down_since = None
            if wanted is None or (self.current and wanted == self.current.version):
                return False
            if not retry and now() < self._retry_at.get(wanted, 0.0):
                return False
            return self._take(wanted, now)

    def _take(self, version: int, now: Callable[[], float]) -> bool:
        try:
            served = self._open(version, self._fetch(version))
        except Exception as error:
            self._refuse(version, error, now())
            return False
        self.current = served
        self.refused.pop(version, None)
        self._remember(served)
        log.info("model swapped", model=self.name, version=version, digest=served.predictor.digest[:12])
        return True

    def _refuse(self, version: int, error: Exception, at: float) -> None:
        failures = self._failures[version] = self._failures.get(version, 0) + 1
        self._retry_at[version] = at + min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (failures - 1))
        self.refused[version] = _reason(error)
        if self.current is None or self.current.version != version:
            shutil.rmtree(self._copy(version), ignore_errors=True)
        log.error("model refused", model=self.name, version=version, reason=self.refused[version], error=str(error))

    def _copy(self, version: int) -> Path:
        return self.folder / str(version)

    def _fetch(self, version: int) -> dict[str, Any]:
        draft = self.folder / f".{version}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(self._copy(version), ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = self.registry.fetch(self.name, version, draft)
        draft.rename(self._copy(version))
        return facts

    def _open(self, version: int, facts: dict[str, Any]) -> Served:
        folder = self._copy(version)
        predictor = load_predictor(folder)
        return Served(self.name, self.alias, version, predictor, load_background(folder), facts)

    def _remember(self, served: Served) -> None:
        draft = self.folder / f".{POINTER}.tmp"
        draft.write_text(json.dumps({"version": served.version, "facts": served.facts}), encoding="utf-8")
        draft.replace(self.folder / POINTER)
        for old in self.folder.iterdir():
            if old.is_dir() and old.name.isdigit() and int(old.name) != served.version:
                shutil.rmtree(old, ignore_errors=True)

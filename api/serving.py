"""The model that answers: a private verified copy, swapped in one step, kept for days without a registry."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog
from filelock import FileLock

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
OUTAGE = "registry_down.json"
LOCK, LOCK_SECONDS = "fetch.lock", 30  # several processes of one checkout share the folder


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
        """Copies a version's bundle to `target`, a folder that does not exist yet; returns what is known of it.

        Under `evaluation` how good it is, or under `no_evaluation` why that is not known.
        """

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
    facts: dict[str, Any]  # from the registry: scores, evaluation, when it was registered, why it was promoted
    loaded_at: float = field(default_factory=time.time)


@dataclass
class ModelSlot:
    """What is served now, and what is known of the registry. A swap is one assignment: no request sees half of it.

    `registry_down_since` is when it failed first, in this process or one before; `alias_missing` says that it answers,
    but knows no version behind the alias.
    """

    name: str
    alias: str
    folder: Path
    registry: Registry
    current: Served | None = None
    refused: dict[int, str] = field(default_factory=dict)
    registry_down_since: float | None = None
    alias_missing: bool = False
    _closed: bool = False
    _retry_at: dict[int, float] = field(default_factory=dict)
    _failures: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def require(self) -> Served:
        """The served model. Raises NoModelError."""
        if self.current is None:
            raise NoModelError(self.name)
        return self.current

    @property
    def degraded(self) -> bool:
        """Whether somebody should look: at a version that was refused, or at the registry."""
        return bool(self.refused) or self.alias_missing or self.registry_down_since is not None

    def load_local(self) -> bool:
        """Opens the copy that was served last, so that a restart needs no registry; False without a good one."""
        self.registry_down_since = self._read_outage()
        if not (self.folder / POINTER).exists():
            log.info("no local model yet, the registry is asked")
            return False
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
                self._note_outage(error, now())
                return False
            self._note_answer(wanted, now())
            if wanted is None or (self.current and wanted == self.current.version):
                return False
            if not retry and now() < self._retry_at.get(wanted, 0.0):
                return False
            return self._take(wanted, now)

    def close(self) -> None:
        """Ends the registry's process; that a question then fails is no outage."""
        self._closed = True
        self.registry.close()

    def _note_outage(self, error: Exception, at: float) -> None:
        if self._closed or self.registry_down_since is not None:
            return
        self.registry_down_since = at
        log.warning("registry unreachable", error=str(error), since=at)
        self._write(OUTAGE, {"since": at})

    def _note_answer(self, wanted: int | None, at: float) -> None:
        if self.registry_down_since is not None:
            log.info("registry is back", seconds=round(at - self.registry_down_since, 1))
            self.registry_down_since = None
            with contextlib.suppress(OSError):
                (self.folder / OUTAGE).unlink(missing_ok=True)
        if wanted is None and not self.alias_missing:
            log.warning("no version has the alias", model=self.name, alias=self.alias)
        self.alias_missing = wanted is None
        # Readers may be going through the old one. What was refused before is nobody's concern any more.
        self.refused = {version: reason for version, reason in self.refused.items() if version == wanted}

    def _read_outage(self) -> float | None:
        try:
            return float(json.loads((self.folder / OUTAGE).read_bytes())["since"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, name: str, content: dict[str, Any]) -> bool:
        """Tells the next start something; False when the disk does not take it, which must not end this one."""
        draft = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text(json.dumps(content), encoding="utf-8")
            draft.replace(self.folder / name)
        except OSError as error:
            log.error("not written for the next start", file=name, error=str(error))
            return False
        return True

    def _take(self, version: int, now: Callable[[], float]) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self.folder / LOCK, timeout=LOCK_SECONDS):
                self._serve(version)
        except Exception as error:
            self._refuse(version, error, now())
            return False
        self.refused = {}
        self._failures.pop(version, None)
        self._retry_at.pop(version, None)
        return True

    def _serve(self, version: int) -> None:
        try:
            served = self._open(version, self._fetch(version))
        except Exception:
            shutil.rmtree(self._copy(version), ignore_errors=True)
            raise
        self.current = served
        log.info("model swapped", model=self.name, version=version, digest=served.predictor.digest[:12])
        if reason := served.facts.get("no_evaluation"):
            log.warning("no evaluation", model=self.name, version=version, reason=reason)
        self._remember(served)

    def _refuse(self, version: int, error: Exception, at: float) -> None:
        failures = self._failures[version] = self._failures.get(version, 0) + 1
        self._retry_at[version] = at + min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (failures - 1))
        self.refused = {version: _reason(error)}
        log.error("model refused", model=self.name, version=version, reason=self.refused[version], error=str(error))

    def _copy(self, version: int) -> Path:
        return self.folder / str(version)

    def _fetch(self, version: int) -> dict[str, Any]:
        draft = self.folder / f".{version}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(self._copy(version), ignore_errors=True)
        facts = self.registry.fetch(self.name, version, draft)
        draft.rename(self._copy(version))
        return facts

    def _open(self, version: int, facts: dict[str, Any]) -> Served:
        folder = self._copy(version)
        predictor = load_predictor(folder)
        return Served(self.name, self.alias, version, predictor, load_background(folder), facts)

    def _remember(self, served: Served) -> None:
        if not self._write(POINTER, {"version": served.version, "facts": served.facts}):
            return  # the next start needs the version that it still points to
        for old in self.folder.iterdir():  # versions from before, and drafts of processes that were killed
            if old.is_dir() and old != self._copy(served.version):
                shutil.rmtree(old, ignore_errors=True)

"""The models that visitors ask: a small one that a test makes, and the flights' champion of a finished run."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from browser import bearer
from server import Running, running

from mlops_core.frontend.facts import Model, read_model


@dataclass(frozen=True)
class Champion:
    """A project with a model and accounts, and the columns of which a visitor makes use."""

    root: Path
    slider: str
    number: str
    choice: str
    strict: str  # a category that must be one of those that training saw
    environment: dict[str, str] = field(default_factory=dict)

    def served(self) -> contextlib.AbstractContextManager[Running]:
        return running(self.root, "/readyz", mlflow=bool(self.environment), **self.environment)


def small(root: Path) -> Champion:
    return Champion(root, slider="amount", number="count", choice="kind", strict="gate")


def flights(root: Path) -> Champion:
    registry = {"MLOPS_MODEL": "flights@champion", "MLOPS_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    columns = {"slider": "origin_overdue", "number": "sched_duration", "choice": "origin", "strict": "origin"}
    return Champion(root, **columns, environment=registry)


def model_of(api: Running) -> Model:
    """What the service says of the model that it serves."""
    return read_model(json.loads(api.get("/v1/model", **bearer(api, "ada")).body))


def titles_of(model: Model) -> dict[str, str]:
    """What each column's field is labelled."""
    return {column.name: column.title for column in model.columns}

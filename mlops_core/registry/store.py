"""The MLflow store: opened by address, made exactly once, its errors translated."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import DBAPIError

from mlops_core.database import create_once, sqlite_file
from mlops_core.errors import MLOpsError
from mlops_core.paths import state_dir
from mlops_core.settings import Settings

CREDENTIALS = re.compile(r"//[^/@\s]*@")


class StoreError(MLOpsError):
    """The store does not answer."""

    def __init__(self, uri: str, problem: str, advice: str = "Is the server up, is the file readable?") -> None:
        self.uri, self.problem = CREDENTIALS.sub("//…@", uri), CREDENTIALS.sub("//…@", problem)
        super().__init__(f"The MLflow store at {self.uri} does not answer: {self.problem}. {advice}")


@dataclass(frozen=True)
class Store:
    """An MLflow store that exists."""

    root: Path
    uri: str
    client: MlflowClient


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Outages become StoreError; what is wrong with a request stays an MlflowException."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
            raise
        raise StoreError(uri, _first_line(error)) from error
    except DBAPIError as error:  # what MLflow meets before it can wrap it: no database, locked, disk full
        raise StoreError(uri, _first_line(error.orig or error)) from error


def open_store(root: Path, settings: Settings) -> Store:
    """Points MLflow at the store, making its tables first where it is a fresh file. Raises StoreError."""
    uri = settings.tracking(root)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with translated(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        create_once(uri, state_dir(root), lambda: _make_tables(uri))
        return Store(root, uri, MlflowClient(uri, uri))


def _make_tables(uri: str) -> None:
    MlflowClient(uri, uri).search_experiments(max_results=1)  # the tables are made by constructing the client already


def open_experiment(store: Store, name: str) -> str:
    """The id of an experiment; with a SQLite store its artefacts lie in the checkout, not in a temporary folder."""
    location = (store.root / "mlartifacts" / name).as_uri() if sqlite_file(store.uri) else None
    with translated(store.uri):
        known = store.client.get_experiment_by_name(name)
        if known:
            return str(known.experiment_id)
        try:
            return str(store.client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            known = store.client.get_experiment_by_name(name)
            if error.error_code == "RESOURCE_ALREADY_EXISTS" and known:
                return str(known.experiment_id)
            raise

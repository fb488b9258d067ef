"""What the machine decides (`MLOPS_*` in the environment); never part of a run's record."""

import re
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as PydanticSettingsError

from mlops_core.errors import RequestError
from mlops_core.paths import state_dir

T = TypeVar("T", bound=BaseSettings)
MODEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)@([A-Za-z0-9][A-Za-z0-9._-]*)")


class Settings(BaseSettings):
    """One field per variable; `.env.example` explains each."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", frozen=True, extra="ignore")

    env: Literal["local", "production"] = "local"
    tracking_uri: str = ""
    study_url: str = ""
    api_url: str = ""
    commit: str = ""

    def tracking(self, root: Path) -> str:
        """The MLflow store: `MLOPS_TRACKING_URI`, or the SQLite file that plain `mlflow ui` opens too."""
        return self.tracking_uri or f"sqlite:///{(root / 'mlflow.db').as_posix()}"

    def study(self, root: Path) -> str:
        """The Optuna store: `MLOPS_STUDY_URL`, or a SQLite file of this checkout."""
        return self.study_url or f"sqlite:///{(state_dir(root) / 'optuna.db').as_posix()}"


class SettingsError(RequestError):
    """A variable of the environment that cannot be understood."""

    def __init__(self, variable: str, problem: str) -> None:
        self.variable, self.problem = variable, problem
        super().__init__(f"{variable}: {problem}")


class ModelNameError(RequestError):
    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"'{text}' names no model: write NAME@ALIAS, for example churn@champion")


def parse_model(text: str) -> tuple[str, str]:
    """Name and alias of `NAME@ALIAS`. Raises ModelNameError."""
    found = MODEL.fullmatch(text)
    if not found:
        raise ModelNameError(text)
    return found[1], found[2]


def read_environment(kind: type[T]) -> T:
    """Settings of a kind. Raises SettingsError for the first variable that cannot be understood."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"MLOPS_{str(first['loc'][0]).upper()}", first["msg"]) from None
    except PydanticSettingsError as error:
        name = re.search(r'field "(\w+)"', str(error))
        problem = 'Input should be a list in JSON, for example ["a", "b"]'
        raise SettingsError(f"MLOPS_{name[1].upper() if name else '…'}", problem) from None


def load_settings() -> Settings:
    """Raises SettingsError."""
    return read_environment(Settings)

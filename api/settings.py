"""What the machine decides for the API (`MLOPS_*`). With `MLOPS_ENV=production` nothing is made up."""

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_core.errors import RequestError
from mlops_core.params import load_params
from mlops_core.paths import state_dir
from mlops_core.settings import SettingsError, parse_model, read_environment

KEPT_IN = "jwt_secret"
SECRET_BYTES = 48
DATABASES = ("postgresql+psycopg://", "sqlite:///")


class MissingSettingError(RequestError):
    """Production lacks something that only a person may choose."""

    def __init__(self, variable: str, fix: str) -> None:
        self.variable = variable
        super().__init__(f"{variable} is not set, and MLOPS_ENV=production makes nothing up: {fix}")


class ApiSettings(BaseSettings):
    """One field per variable; `.env.example` explains each."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", frozen=True, extra="ignore")

    env: Literal["local", "production"] = "local"
    jwt_secret: SecretStr = SecretStr("")
    jwt_previous_secret: SecretStr = SecretStr("")
    database_url: SecretStr = SecretStr("")
    admin_password: SecretStr = SecretStr("")
    model: str = ""
    allowed_hosts: list[str] = ["localhost", "127.0.0.1", "[::1]"]
    trusted_proxies: list[str] = []
    prediction_log_url: SecretStr = SecretStr("")
    max_body_bytes: int = Field(default=8 << 20, ge=1)
    max_rows: int = Field(default=10_000, ge=1)
    max_file_bytes: int = Field(default=64 << 20, ge=1)
    max_file_rows: int = Field(default=1_000_000, ge=1)
    max_files: int = Field(default=4, ge=1)
    body_seconds: float = Field(default=10.0, gt=0)
    file_seconds: float = Field(default=60.0, gt=0)
    stall_seconds: float = Field(default=10.0, gt=0)
    workers: int = Field(default=2, ge=1, le=64)
    waiting: int = Field(default=64, ge=0)
    predict_seconds: float = Field(default=30.0, gt=0)
    refresh_seconds: float = Field(default=5.0, gt=0)
    drain_seconds: float = Field(default=1.0, ge=0)
    grace_seconds: int = Field(default=20, ge=1)
    docs: bool | None = None

    @property
    def show_docs(self) -> bool:
        """Whether /docs and /openapi.json are there: `MLOPS_DOCS`, else everywhere but in production."""
        return self.env == "local" if self.docs is None else self.docs

    def database(self, root: Path) -> str:
        """`MLOPS_DATABASE_URL`, or locally a SQLite file of this checkout."""
        url = self.database_url.get_secret_value()
        if not url and self.env == "production":
            raise MissingSettingError("MLOPS_DATABASE_URL", "point it at PostgreSQL")
        return _known("MLOPS_DATABASE_URL", url) or f"sqlite:///{(state_dir(root) / 'accounts.db').as_posix()}"

    def prediction_log(self, root: Path) -> str:
        """`MLOPS_PREDICTION_LOG_URL`, else `MLOPS_DATABASE_URL`, else a SQLite file of its own, with its own lock."""
        own = _known("MLOPS_PREDICTION_LOG_URL", self.prediction_log_url.get_secret_value())
        url = own or _known("MLOPS_DATABASE_URL", self.database_url.get_secret_value())
        return url or f"sqlite:///{(state_dir(root) / 'predictions.db').as_posix()}"

    def served_model(self, root: Path) -> tuple[str, str]:
        """Name and alias: `MLOPS_MODEL`, else the champion of the checkout's dataset."""
        if self.model:
            return parse_model(self.model)
        return load_params(root=root).dataset, "champion"

    def secret(self, root: Path) -> str:
        """`MLOPS_JWT_SECRET`, or locally a random one that is kept with mode 0600."""
        value = self.jwt_secret.get_secret_value()
        if value:
            return value
        if self.env == "production":
            raise MissingSettingError(
                "MLOPS_JWT_SECRET", 'make one with python -c "import secrets; print(secrets.token_urlsafe(48))"'
            )
        return _kept_secret(state_dir(root) / KEPT_IN)


def _known(variable: str, url: str) -> str:
    """The address, which may be empty. Raises SettingsError, without the password that may be in it."""
    if url and not url.startswith(DATABASES):
        raise SettingsError(variable, f"An address starts with {' or '.join(DATABASES)}")
    return url


def _kept_secret(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    kept = path.read_text(encoding="ascii").strip()
    if not kept:
        kept = secrets.token_urlsafe(SECRET_BYTES)
        path.write_text(kept, encoding="ascii")
    return kept


def load_api_settings() -> ApiSettings:
    """Raises SettingsError."""
    return read_environment(ApiSettings)

"""Writes the byte code of what serving imports, and only of that: of all packages it would be 60 MB more."""

import importlib

WANTED = (
    "alembic.command", "argon2", "fastapi.routing", "fastapi_offline", "filelock", "h11", "jose.jwt",
    "mlflow.artifacts", "mlflow.store.artifact.mlflow_artifacts_repo", "mlflow.store.model_registry.rest_store",
    "mlflow.store.tracking.rest_store", "mlflow.tracking", "multipart", "onnxruntime", "orjson", "prometheus_client",
    "psycopg", "pwdlib.hashers.argon2", "pyarrow.compute", "pyarrow.csv", "pyarrow.parquet", "pydantic_settings",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "structlog", "typer",
    "uvicorn.protocols.http.h11_impl", "uvicorn.lifespan.on", "uvicorn.loops.auto", "yaml",
)  # fmt: skip

for name in WANTED:
    importlib.import_module(name)

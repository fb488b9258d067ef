"""Brings the accounts store to the schema that this code expects, once, however many processes start together."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from api.records import AccountsUnavailableError, database_errors
from mlops_core.database import create_private_file, open_engine, store_lock
from mlops_core.errors import MLOpsError

VERSION_TABLE = "mlops_alembic"
HEAD = "0002"  # the last of `versions`
ADVISORY_LOCK = 0x6D6C6F7073  # "mlops"; replicas on other machines share no lock file


class UnknownSchemaError(MLOpsError):
    """The database's schema version is none of ours, most likely newer."""

    def __init__(self) -> None:
        super().__init__(
            "The accounts database was made by another version of this software. "
            "Install that version, or point MLOPS_DATABASE_URL at another database."
        )


def migrate(url: str, folder: Path, unavailable: type[MLOpsError] = AccountsUnavailableError) -> None:
    """Creates or upgrades the store in one transaction, or finds it up to date; `folder` holds the lock file.

    Raises `unavailable` for a database that is down, locked or full, and UnknownSchemaError.
    """
    with store_lock(url, folder), database_errors(unavailable):
        create_private_file(url)
        engine = open_engine(url)
        try:
            with engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
                if _read_version(connection) != HEAD:
                    _upgrade(connection)
        finally:
            engine.dispose()


def _read_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))


def _upgrade(connection: Connection) -> None:
    # A service whose store is up to date starts without Alembic: it would stay in memory, 11 MB of it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "api:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UnknownSchemaError from error

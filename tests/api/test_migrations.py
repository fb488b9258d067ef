import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from api.migrations import HEAD, VERSION_TABLE, UnknownSchemaError, migrate
from api.records import AccountsUnavailableError, Record
from mlops_core.database import create_private_file, open_engine

TABLES = {"mlops_users", "mlops_sessions", "mlops_throttle", "mlops_predictions", "mlops_outcomes"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, make_database: Callable[[str], str]) -> str:
    return make_database(request.param)


def table_names(url: str) -> set[str]:
    engine = open_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    engine = open_engine(url)
    with engine.begin() as connection:
        results = [connection.exec_driver_sql(statement) for statement in statements]
        rows = [tuple(row) for row in results[-1]] if results[-1].returns_rows else []
    engine.dispose()
    return rows


def test_a_migrated_store_has_exactly_the_columns_of_the_records(url: str, tmp_path: Path) -> None:
    migrate(url, tmp_path)
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Record.metadata) == []
    engine.dispose()


def test_the_head_that_needs_no_upgrade_is_the_last_version() -> None:
    config = Config()
    config.set_main_option("script_location", "api:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


MIGRATE = """
import sys
from pathlib import Path
from api.migrations import migrate
import alembic.command, psycopg, sqlalchemy.dialects.postgresql.psycopg
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1], Path(sys.argv[2]))
"""


def migrate_at_once(url: str, folders: list[Path]) -> list[str]:
    """What each process wrote, one per folder of lock files; all start when the slowest has imported everything."""
    commands = [[sys.executable, "-W", "error", "-c", MIGRATE, url, str(folder)] for folder in folders]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        for command in commands
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[0] + str(process.returncode) for process in processes]


def test_four_processes_at_once_make_one_store(url: str, tmp_path: Path) -> None:
    assert migrate_at_once(url, [tmp_path] * 4) == ["0"] * 4
    assert table_names(url) == TABLES | {VERSION_TABLE}
    assert execute(url, f"SELECT version_num FROM {VERSION_TABLE}") == [("0002",)]


def test_replicas_that_share_no_lock_file_make_one_store(make_database: Callable[[str], str], tmp_path: Path) -> None:
    url = make_database("postgresql")
    assert migrate_at_once(url, [tmp_path / str(number) for number in range(4)]) == ["0"] * 4
    assert table_names(url) == TABLES | {VERSION_TABLE}


def test_migrating_again_keeps_every_row(url: str, tmp_path: Path) -> None:
    migrate(url, tmp_path)
    execute(url, "INSERT INTO mlops_throttle (key, failures, first_at) VALUES ('k', 1, '2013-01-01 00:00:00')")
    migrate(url, tmp_path)
    assert execute(url, "SELECT key, failures FROM mlops_throttle") == [("k", 1)]


def test_a_neighbours_tables_stay_as_they_are(url: str, tmp_path: Path) -> None:
    create_private_file(url)
    execute(
        url,
        "CREATE TABLE users (id INTEGER)",
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('mlflow')",
    )
    migrate(url, tmp_path)
    assert table_names(url) == TABLES | {VERSION_TABLE, "users", "alembic_version"}
    assert execute(url, "SELECT version_num FROM alembic_version") == [("mlflow",)]


def test_a_migration_that_fails_half_way_leaves_nothing_behind(url: str, tmp_path: Path) -> None:
    create_private_file(url)
    execute(url, "CREATE TABLE mlops_throttle (key INTEGER)")
    with pytest.raises(AccountsUnavailableError):
        migrate(url, tmp_path)
    assert table_names(url) == {"mlops_throttle"}
    execute(url, "DROP TABLE mlops_throttle")
    migrate(url, tmp_path)
    assert table_names(url) == TABLES | {VERSION_TABLE}


def test_a_newer_store_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    migrate(url, tmp_path)
    execute(url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(UnknownSchemaError, match="another version"):
        migrate(url, tmp_path)
    assert execute(url, f"SELECT version_num FROM {VERSION_TABLE}") == [("9999",)]


def test_a_dead_server_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(AccountsUnavailableError):
        migrate(f"postgresql+psycopg://nobody:canary-secret@/none?host={tmp_path}", tmp_path)


def test_the_file_is_for_its_owner_only(make_database: Callable[[str], str], tmp_path: Path) -> None:
    url = make_database("sqlite")
    migrate(url, tmp_path)
    (file,) = tmp_path.glob("*.db")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_path_with_odd_characters_is_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "100% über? #1 & more"
    migrate(f"sqlite:///{folder / 'accounts.db'}", tmp_path)
    assert (folder / "accounts.db").stat().st_size > 0


def test_the_package_carries_its_migrations() -> None:
    folder = files("api.migrations")
    assert all(
        (folder / name).is_file()
        for name in ("env.py", "script.py.mako", "versions/accounts_0001.py", "versions/predictions_0002.py")
    )

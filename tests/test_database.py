import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from mlops_core import database
from mlops_core.database import create_once, sqlite_file, store_lock


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////tmp/a/mlflow.db", Path("/tmp/a/mlflow.db")),
        ("sqlite:///mlflow.db", Path("mlflow.db")),
        ("postgresql://host/mlflow", None),
        ("http://mlflow:5000", None),
        ("", None),
    ],
)
def test_only_a_sqlite_address_has_a_file(url, file):
    assert sqlite_file(url) == file


def test_folders_of_the_store_and_its_lock_are_made(tmp_path):
    with store_lock(f"sqlite:///{tmp_path}/a/b/store.db", tmp_path / "locks"):
        assert (tmp_path / "a/b").is_dir()
        assert (tmp_path / "locks/store.lock").exists()


def test_the_lock_is_held_while_the_store_is_made(tmp_path):
    def create():
        with pytest.raises(Timeout), FileLock(tmp_path / "store.lock", timeout=0):
            pass
        (tmp_path / "made").touch()

    create_once("postgresql://host/db", tmp_path, create)
    assert (tmp_path / "made").exists()


def test_a_lock_that_never_comes_free_is_not_waited_for_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    with FileLock(tmp_path / "store.lock"), pytest.raises(Timeout):
        create_once("postgresql://host/db", tmp_path, lambda: None)


def test_the_lock_is_free_again_after_a_failure(tmp_path):
    def fail():
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        create_once("postgresql://host/db", tmp_path, fail)
    with FileLock(tmp_path / "store.lock", timeout=0):
        pass


MAKE = """
import sqlite3, sys, time
from pathlib import Path
from mlops_core.database import create_once, sqlite_file
url, folder = sys.argv[1], Path(sys.argv[2])
def create():
    connection = sqlite3.connect(sqlite_file(url), isolation_level=None)
    if not connection.execute("select name from sqlite_master").fetchall():
        time.sleep(0.1)
        connection.execute("create table made (by text)")
    connection.execute("insert into made values ('me')")
    connection.close()
create_once(url, folder, create)
"""


def test_four_processes_make_one_store(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    command = [sys.executable, "-c", MAKE, url, str(tmp_path / "locks")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate()[1] for process in running]
    assert errors == [""] * 4
    connection = sqlite3.connect(tmp_path / "store.db")
    assert connection.execute("select count(*) from made").fetchone() == (4,)
    connection.close()

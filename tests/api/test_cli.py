"""`mlops users` and the help, as people type them, against a server that runs meanwhile."""

import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server import Running, environment, make_root, mlops

LONG = "nine geese over the town"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose accounts nobody has made yet."""
    return make_root(tmp_path_factory.mktemp("cli") / "project")


def add(root: Path, name: str, *more: str, typed: str = "", scopes: str = "predict") -> tuple[int, str, str]:
    done = mlops(root, "users", "add", name, "--scopes", scopes, *more, typed=typed)
    return done.code, done.out, done.err


HELP = """
import sys
from api.cli import main
sys.argv = ["mlops", "--help"]
try:
    main()
finally:
    heavy = {"alembic", "fastapi", "mlflow", "numpy", "onnxruntime", "pandas", "pydantic", "sqlalchemy"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def test_help_lists_the_service_and_waits_for_no_large_library(root: Path) -> None:
    command = [sys.executable, "-c", HELP]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert re.search(r"^  serve  ", done.stdout, re.MULTILINE)
    assert re.search(r"^  users  ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "named"), [(["serve"], ["--host", "--port", "8000"]), (["users"], ["add", "list"])]
)
def test_every_command_explains_itself(root: Path, command: list[str], named: list[str]) -> None:
    done = mlops(root, *command, "--help")
    assert done.code == 0
    assert all(word in done.out for word in named)


def migrated(root: Path, **variables: str) -> tuple[int, str, str]:
    done = mlops(root, "migrate", **variables)
    return done.code, done.out, done.err


def test_databases_are_made_before_the_service_starts_and_the_first_admin_with_them(tmp_path: Path) -> None:
    fresh = make_root(tmp_path / "project")
    assert migrated(fresh) == (0, "The databases are up to date.\n", "")
    assert mlops(fresh, "users", "list").out == ""
    assert migrated(fresh, MLOPS_ADMIN_PASSWORD="short")[0] == 2
    code, out, _ = migrated(fresh, MLOPS_ADMIN_PASSWORD=LONG)
    assert (code, "Added admin" in out, LONG in out) == (0, True, False)
    assert migrated(fresh, MLOPS_ADMIN_PASSWORD=LONG + " again") == (0, "The databases are up to date.\n", "")
    assert re.match(r"admin +admin monitor predict", mlops(fresh, "users", "list").out)


def test_a_password_is_made_and_printed_once_where_nobody_types(root: Path, served: Running) -> None:
    done = mlops(served.root, "users", "add", "bo", "--scopes", "predict, monitor")
    assert done.code == 0, done
    password = re.fullmatch(r"Added bo \(monitor, predict\) with the password (\S{20,})\n", done.out)
    assert password, done.out
    assert served.login("bo", password[1]).json["scope"] == "monitor predict"
    assert password[1] not in mlops(served.root, "users", "list").out


def test_a_password_comes_through_a_pipe_and_is_shown_nowhere(root: Path, served: Running) -> None:
    code, out, err = add(served.root, "Cy", "--password-stdin", typed=LONG + "\n")
    assert (code, out, err) == (0, "Added cy (predict)\n", "")
    assert served.login("cy", LONG).status == 200


def test_a_password_with_blanks_around_it_is_taken_as_it_is(served: Running) -> None:
    odd = "  nine geese 🪿 over  "
    assert add(served.root, "dee", "--password-stdin", typed=odd + "\r\n")[0] == 0
    assert served.login("dee", odd).status == 200
    assert served.login("dee", odd.strip()).status == 401


@pytest.mark.parametrize(
    ("name", "scopes", "typed", "said"),
    [
        ("flo", "predict", "short canary\n", "15"),
        ("flo", "predict", "", "15"),
        ("flo", "predict", "flofloflofloflo\n", "name"),
        ("flo", "predict", "x" * 5000 + "\n", ""),
        ("flo", "read", LONG, "read"),
        ("flo", "predict,root", LONG, "root"),
        ("flo", "", LONG, "scope"),
        ("", "predict", LONG, "name"),
        ("a b", "predict", LONG, "name"),
        ("x" * 300, "predict", LONG, "name"),
        ("flo\x1b[31m", "predict", LONG, "name"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(root: Path, name: str, scopes: str, typed: str, said: str) -> None:
    done = mlops(root, "users", "add", name, "--scopes", scopes, "--password-stdin", typed=typed)
    assert done.code == 2, done
    line = done.one_line()
    assert said in line
    assert "canary" not in line
    assert "\x1b" not in line
    assert not typed.strip() or typed.strip() not in line


def test_nothing_of_all_that_was_made(root: Path) -> None:
    assert mlops(root, "users", "list").out == ""


def test_a_name_that_is_taken_is_refused_whatever_its_case(served: Running) -> None:
    done = mlops(served.root, "users", "add", "ADA", "--scopes", "predict", "--password-stdin", typed=LONG)
    assert done.code == 2
    assert "'ada'" in done.one_line()


def test_unknown_accounts_and_commands_are_one_line_or_usage(root: Path) -> None:
    done = mlops(root, "users", "disable", "nobody")
    assert done.code == 2
    assert "no such user" in done.one_line()
    assert mlops(root, "users", "remove", "nobody").code == 2
    assert mlops(root, "serve", "--port", "70000").code == 2
    assert "Traceback" not in mlops(root, "serve", "--port", "x").err


def test_a_disabled_accounts_token_dies_at_once_on_the_running_server(served: Running) -> None:
    headers = served.bearer("eve")
    for _ in range(3):  # remembered by now
        assert served.get("/auth/me", **headers).status == 200
    assert mlops(served.root, "users", "disable", "EVE").out == "Disabled eve\n"
    served.get("/auth/me", **headers).problem(401)
    served.login("eve").problem(401)
    assert re.search(r"^eve +predict +disabled$", mlops(served.root, "users", "list").out, re.MULTILINE)


def test_the_last_admin_is_not_disabled(served: Running) -> None:
    done = mlops(served.root, "users", "disable", "root")
    assert done.code == 1
    assert "last enabled admin" in done.one_line()
    assert served.login("root").status == 200


def test_an_account_made_meanwhile_logs_in_without_a_restart(served: Running) -> None:
    assert add(served.root, "gil", "--password-stdin", typed=LONG, scopes="admin")[0] == 0
    token = served.login("gil", LONG).json["access_token"]
    names = [user["name"] for user in served.get("/admin/users", authorization=f"Bearer {token}").json["users"]]
    assert {"ada", "gil", "root"} <= set(names)


def type_into(root: Path, command: list[str], *answers: str) -> tuple[int, str]:
    """Runs a command in a terminal and answers its prompts; its exit code, and what the terminal showed."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        ["mlops", *command],
        cwd=root,
        env=environment(),
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    shown, waiting = "", list(answers)
    try:
        while select.select([parent], [], [], 20)[0]:
            shown += os.read(parent, 1024).decode()
            if waiting and shown.rstrip(" ").endswith(":"):
                time.sleep(0.3)  # people type after the prompt, and by then the echo is off
                os.write(parent, (waiting.pop(0) + "\n").encode())
                shown += " "
    except OSError:
        pass  # Linux says so when the other end is closed
    os.close(parent)
    return process.wait(20), shown


def test_a_password_is_asked_for_twice_in_a_terminal_and_never_shown(root: Path) -> None:
    command = ["users", "add", "hal", "--scopes", "predict"]
    code, shown = type_into(root, command, LONG, LONG + "!")
    assert code == 2, shown
    assert "differ" in shown
    code, shown = type_into(root, command, LONG, LONG)
    assert code == 0, shown
    assert LONG not in shown
    assert mlops(root, "users", "list").out.startswith("hal ")


def test_a_lost_password_is_replaced_and_the_sessions_end_at_once(served: Running) -> None:
    assert add(served.root, "ivy", "--password-stdin", typed=LONG)[0] == 0
    tokens = served.login("ivy", LONG).json
    old = {"authorization": f"Bearer {tokens['access_token']}"}
    assert served.get("/auth/me", **old).status == 200
    other = LONG + " again"
    done = mlops(served.root, "users", "password", "IVY", "--password-stdin", typed=other + "\n")
    assert (done.code, done.out, done.err) == (0, "ivy has a new password now\n", "")
    served.get("/auth/me", **old).problem(401)
    served.login("ivy", LONG).problem(401)
    assert served.login("ivy", other).status == 200


def test_a_new_password_is_made_or_asked_for_like_the_first_one(served: Running) -> None:
    assert add(served.root, "jan", "--password-stdin", typed=LONG)[0] == 0
    done = mlops(served.root, "users", "password", "jan")
    made = re.fullmatch(r"jan has the password (\S{20,}) now\n", done.out)
    assert made, done
    assert served.login("jan", made[1]).status == 200
    code, shown = type_into(served.root, ["users", "password", "jan"], LONG, LONG)
    assert code == 0, shown
    assert LONG not in shown
    assert served.login("jan", LONG).status == 200


@pytest.mark.parametrize(
    ("name", "typed", "said"), [("nobody", LONG, "no such user"), ("ada", "short canary", "15"), ("ada", "", "15")]
)
def test_a_new_password_that_is_refused_changes_nothing(served: Running, name: str, typed: str, said: str) -> None:
    done = mlops(served.root, "users", "password", name, "--password-stdin", typed=typed)
    assert done.code == 2, done
    assert said in done.one_line()
    assert "canary" not in done.err
    assert served.login("ada").status == 200


def test_the_database_of_accounts_is_for_its_owner_only(root: Path) -> None:
    mlops(root, "users", "list")
    assert stat.S_IMODE((root / ".mlops" / "accounts.db").stat().st_mode) == 0o600


def test_production_names_what_is_missing(root: Path) -> None:
    done = mlops(root, "users", "list", MLOPS_ENV="production")
    assert done.code == 2
    assert "MLOPS_DATABASE_URL" in done.one_line()

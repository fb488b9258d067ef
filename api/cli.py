"""The commands of the service, beside those of the series: what the console script `mlops` starts."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_core.cli import app, main
from mlops_core.errors import RequestError

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["main"]


class PasswordsDifferError(RequestError):
    def __init__(self) -> None:
        super().__init__("The two passwords differ. Try again.")


class NoScopesError(RequestError):
    def __init__(self) -> None:
        super().__init__("An account without scopes can do nothing: give it some with --scopes predict,monitor,admin.")


users = typer.Typer(help="The accounts of the API.", no_args_is_help=True)
app.add_typer(users, name="users")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.", metavar="H")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535, metavar="P")] = 8000,
) -> None:
    """Serve the champion over HTTP until Ctrl-C or SIGTERM."""
    from api.registry import RegistryProcess, copies_dir
    from mlops_core.paths import find_root

    root = find_root()
    registry = RegistryProcess(root)
    if not copies_dir(root).exists():
        registry.start()  # no model is at hand, and MLflow's imports take longer than those of the service
    from api.server import serve as start

    start(root, host, port, registry)


@app.command("migrate")
def migrate_databases() -> None:
    """Bring the API's databases up to date before it starts; make the first admin if MLOPS_ADMIN_PASSWORD is set."""
    from api.accounts import ADMIN
    from api.settings import load_api_settings
    from api.setup import prepare
    from mlops_core.paths import find_root

    made = prepare(load_api_settings(), find_root())
    print(
        "The databases are up to date."
        + (f" Added {ADMIN}, with the password of MLOPS_ADMIN_PASSWORD." if made else "")
    )


@app.command("app")
def serve_app(
    host: Annotated[str, typer.Option(help="The address to listen on.", metavar="H")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.", min=1, max=65535, metavar="P")] = 8866,
    api_url: Annotated[
        str, typer.Option(help="The API; if left out MLOPS_API_URL, else one is started here.", metavar="URL")
    ] = "",
) -> None:
    """Serve the web page until Ctrl-C or SIGTERM, and the API beside it where none runs."""
    from mlops_core.frontend.launch import run_app
    from mlops_core.paths import find_root

    run_app(find_root(), host, port, api_url)


@contextmanager
def _accounts() -> "Iterator[Engine]":
    from api.migrations import migrate
    from api.settings import load_api_settings
    from mlops_core.database import open_engine
    from mlops_core.paths import find_root, state_dir

    root = find_root()
    url = load_api_settings().database(root)
    migrate(url, state_dir(root))
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    scopes: Annotated[str, typer.Option(help="Of predict, monitor and admin, with commas.", metavar="SCOPES")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from a pipe.")] = False,
) -> None:
    """Create an account; its password is asked for, read from standard input, or made and printed once."""
    from api.accounts import create_user

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    if not wanted:
        raise NoScopesError
    given, made = _password(password_stdin)
    with _accounts() as engine:
        user = asyncio.run(create_user(engine, name, given or made, wanted))
    print(f"Added {user.name} ({', '.join(user.scopes)})" + (f" with the password {made}" if made else ""))


def _password(from_pipe: bool) -> tuple[str, str]:
    """What was typed or sent, or else one that was made; the other one is empty."""
    if from_pipe:
        return sys.stdin.readline().rstrip("\r\n"), ""
    from api.passwords import generate_password

    given: str = ""
    if sys.stdin.isatty():
        given = typer.prompt("Password (empty: make one)", default="", show_default=False, hide_input=True)
        if given and given != typer.prompt("Again", default="", show_default=False, hide_input=True):
            raise PasswordsDifferError
    return given, "" if given else generate_password()


@users.command("list")
def show_users() -> None:
    """List the accounts."""
    from api.accounts import MAX_PAGE, list_users

    with _accounts() as engine:
        page = list_users(engine)
        while page:
            for user in page:
                print(f"{user.name:<24} {' '.join(user.scopes):<24} {'' if user.enabled else 'disabled'}".rstrip())
            page = list_users(engine, after=page[-1].name) if len(page) == MAX_PAGE else []


@users.command("disable")
def disable_user(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Disable an account; its sessions end at once."""
    from api.accounts import change_user, require_user_named

    with _accounts() as engine:
        user = change_user(engine, require_user_named(engine, name).id, enabled=False)
    print(f"Disabled {user.name}")


@users.command("password")
def reset_lost_password(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from a pipe.")] = False,
) -> None:
    """Give an account another password, which is taken as by `add`; its sessions end at once."""
    from api.accounts import require_user_named, reset_password

    given, made = _password(password_stdin)
    with _accounts() as engine:
        user = asyncio.run(reset_password(engine, require_user_named(engine, name), given or made))
    print(f"{user.name} has {f'the password {made}' if made else 'a new password'} now")

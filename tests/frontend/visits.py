"""A project that can be served, and a visitor's page on it without a browser."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pwdlib import PasswordHash
from server import PASSWORD, Running, make_root
from service import CHEAP

from api import passwords
from api.accounts import create_user
from api.migrations import migrate
from mlops_core.database import open_engine
from mlops_core.frontend.page import Page


def make_project(folder: Path, bundle: Path) -> Path:
    """A project with a model and accounts."""
    root = make_root(folder, bundle)
    add_accounts(root)
    return root


def add_accounts(root: Path) -> None:
    """The accounts ada (predict), eve (monitor) and root (admin)."""
    url = f"sqlite:///{root / '.mlops' / 'accounts.db'}"
    migrate(url, root / ".mlops")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))
        engine = open_engine(url)
        with ThreadPoolExecutor(1) as apart:  # Playwright keeps a loop of its own running in this thread
            for name, scopes in {"ada": ["predict"], "eve": ["monitor"], "root": ["admin", "predict"]}.items():
                apart.submit(lambda: asyncio.run(create_user(engine, name, PASSWORD, scopes))).result()  # noqa: B023
        engine.dispose()


@contextlib.asynccontextmanager
async def opened(server: Running, name: str = "ada") -> AsyncIterator[Page]:
    """A page, signed in."""
    page = Page(f"http://127.0.0.1:{server.port}")
    sign_in(page, name)
    await page.settled()
    try:
        yield page
    finally:
        await page.close()


def sign_in(page: Page, name: str = "ada", password: str = PASSWORD) -> None:
    page.sign_in.name.value, page.sign_in.password.value = name, password
    page.sign_in.button.click()


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.02)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)

"""The whole page: who is signed in, which tab is open, what went wrong, and how it goes on by itself."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from html import escape
from typing import Any

import ipywidgets as widgets

from mlops_core.frontend.about import About
from mlops_core.frontend.ask import Ask
from mlops_core.frontend.batch import Batch
from mlops_core.frontend.client import Api, ApiError
from mlops_core.frontend.facts import Model, read_model
from mlops_core.frontend.failures import Notice, notice_of, notice_of_crash
from mlops_core.frontend.history import History
from mlops_core.frontend.signin import SignIn
from mlops_core.frontend.words import box, hide, html, show_notice

POLL_SECONDS = 1.0
TABS = ("Ask", "Table", "History", "Model")

log = logging.getLogger("mlops.frontend")


class Page:
    """One visitor's page. Everything that fails ends in a sentence; what passes by itself is waited for."""

    def __init__(self, url: str = "") -> None:
        self.api = Api(url)
        self.ask: Ask | None = None
        self.batch: Batch | None = None
        self.about: About | None = None
        self.history = History()
        self.notice: Notice | None = None
        self._owner = ""  # who entered what is on the page
        self._running: set[asyncio.Task[None]] = set()
        self._recovering: asyncio.Task[None] | None = None
        self._title, self._user = html(kind="mlops-title"), html(kind="mlops-user")
        self._alert = html()
        self.sign_in = SignIn(lambda name, password: self.run(self._sign_in(name, password)))
        self._leave = widgets.Button(description="Sign out")
        self._leave.on_click(lambda _: self.run(self.sign_out()))
        self.tabs = widgets.ToggleButtons(options=TABS, value=TABS[0])
        self.tabs.add_class("mlops-tabs")
        self.tabs.observe(lambda _: self._open(), "value")
        self._stack = widgets.Stack([html() for _ in TABS], selected_index=0)
        self._main = box(self.tabs, self._stack, kind="mlops-main")
        theme = html('<button type="button" data-action="theme">Light or dark</button>', kind="mlops-theme")
        head = box(self._title, self._user, self._leave, theme, kind="mlops-head", across=True)
        self.view = PageView([head, self._alert, self.sign_in.view, self._main])
        self.view.add_class("mlops-page")
        self._show_user()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts work that may fail; its failure becomes a notice."""
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Waits until nothing that was started is left to do; for rehearsals and tests."""
        while self._running or (self.ask and self.ask.latest.busy):
            await asyncio.gather(*self._running)
            if self.ask:
                await self.ask.latest.settled()

    async def recovered(self) -> None:
        """Waits until what passes by itself has passed, and the page has gone on."""
        if self._recovering is not None:
            await self._recovering
        await self.settled()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ApiError as error:
            self.fail(error)
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("the page failed, reference %s", reference)
            self._say(notice_of_crash(reference))

    def fail(self, error: ApiError) -> None:
        """Says what happened; waits for what passes by itself, asks to sign in again where a session has ended."""
        notice = notice_of(error)
        self._say(notice)
        if error.kind == "signed out":
            self._show_user()
        if notice.waits and self._recovering is None:
            self._recovering = asyncio.get_running_loop().create_task(self._recover(error.wait_seconds))

    def _say(self, notice: Notice | None) -> None:
        self.notice = notice
        self._alert.value = show_notice(notice)

    async def _recover(self, wait_seconds: float) -> None:
        await asyncio.sleep(max(wait_seconds, POLL_SECONDS))
        while not await self.api.is_ready():
            await asyncio.sleep(POLL_SECONDS)
        self._recovering = None
        self._say(None)
        if self.api.user:
            self.run(self._go_on())

    async def _go_on(self) -> None:
        if self.ask is None:
            await self._load()
        else:
            self.ask.latest.call()
        self._open()

    async def _sign_in(self, name: str, password: str) -> None:
        try:
            await self.api.sign_in(name, password)
        finally:
            self.sign_in.wait(False)
        if self.api.user != self._owner:  # what somebody else entered before his session ended is his
            self._forget()
        self._owner = self.api.user
        self._say(None)
        self._show_user()
        await self._load()

    async def sign_out(self) -> None:
        """Ends the session here and in the API; nothing of it stays in this kernel."""
        await self.api.sign_out()
        self._forget()
        self.sign_in.name.value = ""
        self._say(None)
        self._show_user()

    def _forget(self) -> None:
        self.ask = self.batch = self.about = None
        self._owner = ""
        self.history.clear()
        self._stack.children = [html() for _ in TABS]
        self.tabs.value = TABS[0]

    async def _load(self) -> None:
        """Builds the tabs of the served model, or keeps those that are there: what was entered must not be lost."""
        model = read_model(await self.api.model())
        if self.ask is None or self.ask.model != model:
            self._build(model)
        assert self.ask is not None
        self.ask.latest.call()
        self._open()

    def _build(self, model: Model) -> None:
        before = self.ask
        self.ask = Ask(self.api, model, self.fail, self._answered, self.history.add)
        self.ask.newer = lambda: self.run(self._load())
        if before is not None and before.row:
            known = {column.name for column in model.columns}
            self.ask.form.reset({name: value for name, value in before.row.items() if name in known})
        self.batch, self.about = Batch(self.api, model, self.run), About(self.api, model)
        self._stack.children = [self.ask.view, self.batch.view, self.history.view, self.about.view]
        self._title.value = f"<h1>{escape(model.title)}</h1><p>{escape(model.question)}</p>"

    def _answered(self) -> None:
        """Whatever was wrong has passed."""
        if self.notice is not None and self._recovering is None:
            self._say(None)

    def _open(self) -> None:
        self._stack.selected_index = TABS.index(self.tabs.value)
        if self.tabs.value == "Model" and self.about is not None:
            self.run(self.about.show())

    def _show_user(self) -> None:
        user = self.api.user
        self._user.value = f"<span>Signed in as <strong>{escape(user)}</strong></span>" if user else ""
        for part in (self._leave, self._main):
            hide(part, not user)
        hide(self.sign_in.view, bool(user))
        if not user and not self._title.value:
            self._title.value = "<h1>Predictions</h1>"

    async def close(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovering
        await self.api.close()


class PageView(widgets.VBox):
    """The widgets of a page; as text, which batch runs keep, it is a sentence."""

    def __repr__(self) -> str:
        return "The page. Open it with: make app"


def open_page(url: str = "") -> PageView:
    """The page, for a cell's output."""
    return Page(url).view

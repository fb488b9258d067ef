"""A real Chromium on a real Voilà; whatever is asked of another host fails the test."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright
from server import PASSWORD

from mlops_core.frontend.launch import serve_page
from mlops_core.processes import free_port

CHECKOUT = Path(__file__).parents[2]
CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HEAD = ".mlops-answer .head"


@contextlib.contextmanager
def voila(api_url: str, root: Path = CHECKOUT) -> Iterator[str]:
    """The page's address."""
    port = free_port()
    with serve_page(root, "127.0.0.1", port, api_url):
        yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Visit:
    """One visitor's tab: what it asked for, and what its console complained of."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 1000}, "accept_downloads": True, **options}
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.address, self.foreign, self.complaints = address, list[str](), list[str]()
        self.context.route(lambda url: not url.startswith((address, "data:", "blob:", "about:")), self._refuse)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _refuse(self, route: Route) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def open(self) -> "Visit":
        self.page.goto(self.address)
        self.page.locator("#loading").wait_for(state="detached")
        return self

    def sign_in(self, name: str = "ada", password: str = PASSWORD) -> "Visit":
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        return self

    def answered(self) -> "Visit":
        """Waits for an answer and all three charts."""
        self.page.locator(HEAD).wait_for()
        for place in range(3):
            self.page.locator(".mlops-ask .mlops-plot[data-drawn]").nth(place).wait_for()
        return self

    def unfold(self) -> "Visit":
        """Shows the fields of what matters less, too; which these are is the model's say."""
        more = self.page.locator(".mlops-more")
        if more.count():
            more.click()
        return self

    def tab(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def numbers(self, place: int = 0) -> dict[str, str]:
        """The table behind a chart of the tab that asks."""
        rows = self.page.locator(".mlops-ask .mlops-plot").nth(place).locator("tbody tr")
        cells = rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")
        return {cell[0]: cell[1] for cell in cells}

    def close(self) -> None:
        self.context.unroute_all()  # with it, Chromium drops what a page sends as it is left
        self.page.goto("about:blank")  # as a person leaves; a closed context tells nobody
        self.context.close()


def bearer(server: Any, name: str) -> dict[str, str]:
    """A token of its own each time: an account that was disabled for a moment has lost the ones before."""
    token = json.loads(server.login(name).body)["access_token"]
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}

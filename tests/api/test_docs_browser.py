"""The page in a real browser that reaches nothing but this server: log in with Authorize, then ask for a prediction."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any
from urllib.request import urlopen

import pytest
from server import PASSWORD, Running, running
from websocket import WebSocket, create_connection

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
SET = "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Page:
    """One tab, over Chromium's debugging protocol."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket, self.calls, self.events = socket, 0, list[dict[str, Any]]()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while True:
            message: dict[str, Any] = json.loads(self.socket.recv())
            if message.get("id") == self.calls:
                return message
            self.events.append(message)

    def run(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script)["result"]["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> Any:
        """The first value of a script that is not empty."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText")[:2000])
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        self.wait(f"!!document.querySelector({selector!r})")
        self.run(f"document.querySelector({selector!r}).click()")

    def type(self, selector: str, text: str) -> None:
        self.run(
            f"(box => {{ {SET}.call(box, {text!r}); box.dispatchEvent(new Event('input', {{bubbles: true}}));"
            f" box.dispatchEvent(new Event('change', {{bubbles: true}})) }})(document.querySelector({selector!r}))"
        )


@pytest.fixture
def server(project: Path) -> Iterator[Running]:
    with running(project) as started:
        yield started


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*"]
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    command = [str(CHROMIUM), *options, alone, f"--user-data-dir={tmp_path / 'browser'}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert browser.stderr
        port = next(match[1] for line in browser.stderr if (match := re.search(r"ws://[^:]+:(\d+)/", line)))
        socket = create_connection(f"ws://127.0.0.1:{port}/devtools/page/{_first_tab(port)}", timeout=20)
        yield Page(socket)
        socket.close()
    finally:
        browser.terminate()
        browser.communicate(timeout=20)


def _first_tab(port: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        return next(str(item["id"]) for item in json.load(answer) if item["type"] == "page")


def test_a_person_logs_in_and_asks_without_any_other_server(page: Page, server: Running) -> None:
    for domain in ("Page", "Network", "Log", "Runtime"):
        page.call(f"{domain}.enable")
    page.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/docs")
    page.click("button.authorize")
    page.wait("!!document.querySelector('#oauth_username')")
    page.type("#oauth_username", "ada")
    page.type("#oauth_password", PASSWORD)
    page.run("document.querySelector('input[id^=\"predict-password-checkbox\"]').click()")
    page.click(".auth-btn-wrapper button.authorize")
    page.wait("[...document.querySelectorAll('.auth-btn-wrapper button')].some(item => item.innerText == 'Logout')")
    page.click("button.btn-done")
    page.click("#operations-predictions-predict .opblock-summary-control")
    page.wait("document.querySelector('textarea.body-param__text')?.value.includes('instances')")
    page.click("#operations-predictions-predict button.execute")
    status = page.wait("document.querySelector('.live-responses-table tbody td.response-col_status')?.innerText")
    assert status.split()[0] == "200"
    asked = [event["params"] for event in page.events if event["method"] == "Network.requestWillBeSent"]
    addresses = [item["request"]["url"] for item in asked if not item["request"]["url"].startswith("data:")]
    assert all(address.startswith(f"http://127.0.0.1:{server.port}/") for address in addresses)
    said = [event["params"]["entry"] for event in page.events if event["method"] == "Log.entryAdded"]
    assert not [entry for entry in said if entry["level"] in ("warning", "error")], said

"""The web page in a real browser: until it is usable, cold and warm, until a change has its answer, and what a visitor costs.

Floors, in the same run: an error page of the same server in the same browser; the two requests behind a change, asked by a
client of their own.
"""

import contextlib
import json
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.measure import ROOT, tool
from benchmarks.serving import Server, log_in, make_project
from mlops_core.frontend.camera import OPTIONS, find_browser
from mlops_core.frontend.facts import read_model
from mlops_core.frontend.launch import NOTEBOOK, serve_page
from mlops_core.frontend.probes import build_probe
from mlops_core.processes import free_port

ROUNDS, CHANGES = 5, 100
# Playwright looks twice a second for what takes long; the page itself sees the frame in which the curtain is gone and
# the button is there. Milliseconds since the visitor asked for the page.
USABLE = """
(() => {
  const look = () => {
    const buttons = [...document.querySelectorAll('button')];
    const there = buttons.some(item => item.textContent.includes('Sign in') && item.offsetHeight > 0);
    if (there && !document.querySelector('#loading')) window.usable = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()
"""
# Types a number and waits until the reasons, which name it, have been drawn anew.
CHANGE = """
([label, text]) => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error('nothing was drawn')), 10000);
  const box = [...document.querySelectorAll('input[type=text]')].find(item => item.labels[0]?.textContent === label);
  const chart = document.querySelectorAll('.mlops-ask .mlops-plot')[1];
  const started = performance.now();
  new MutationObserver((_, seen) => { seen.disconnect(); resolve(performance.now() - started); })
    .observe(chart, { attributeFilter: ['data-drawn'] });
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(box, text);
  box.dispatchEvent(new Event('input', { bubbles: true }));
})
"""


@contextlib.contextmanager
def _page(folder: Path, api_url: str, config: str = "") -> Iterator[tuple[int, str]]:
    """Voilà on a copy of the notebook, with other settings; its process and its address."""
    (folder / NOTEBOOK).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / NOTEBOOK, folder / NOTEBOOK)
    (folder / "voila.py").write_text(f"c = get_config()\n{config}\n", encoding="utf-8")
    port = free_port()
    with serve_page(folder, "127.0.0.1", port, api_url) as process:
        yield process.pid, f"http://127.0.0.1:{port}/"


def _usable(page: Page, address: str) -> float:
    page.add_init_script(USABLE)
    page.goto(address, wait_until="commit")
    page.wait_for_function("window.usable")
    return float(page.evaluate("window.usable")) / 1000


def _empty(page: Page, address: str) -> float:
    started = time.perf_counter()
    page.goto(f"{address}voila/files/nothing", wait_until="load")
    return time.perf_counter() - started


def _leave(page: Page) -> None:
    page.goto("about:blank")
    page.close()


def _visits(browser: Browser, address: str, keep_cache: bool, pause: float) -> list[float]:
    times = []
    context = browser.new_context()
    for _ in range(ROUNDS + keep_cache):
        time.sleep(pause)
        if not keep_cache:
            context.close()
            context = browser.new_context()
        page = context.new_page()
        times.append(_usable(page, address))
        _leave(page)
    context.close()
    return times[1:] if keep_cache else times


def _changes(page: Page, password: str, label: str) -> list[float]:
    page.get_by_label("Name").fill("bench")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.locator(".mlops-ask .mlops-plot[data-drawn]").nth(2).wait_for()
    time.sleep(1)
    times = []
    for turn in range(CHANGES):
        times.append(page.evaluate(CHANGE, [label, str(turn % 17 + 3)]))
        time.sleep(0.15)
    return times


def _requests_of(server: Server, password: str) -> tuple[list[float], str]:
    """Milliseconds of the two requests behind a change, and the label of the column that is changed."""
    token = log_in(server, password)
    model = read_model(json.loads(server.ask("GET", "/v1/model", headers=token)[1]))
    column = next(item for item in model.by_importance if item.type == "number")
    probe = build_probe(column, model.example)
    assert probe
    one, many = (json.dumps({"instances": rows}) for rows in ([model.example], probe.rows(model.example)))
    times = []
    for _ in range(CHANGES):
        started = time.perf_counter()
        server.ask("POST", "/v1/explain", one, token)
        server.ask("POST", "/v1/predict", many, token)
        times.append((time.perf_counter() - started) * 1000)
    return times, column.title


def bench_page() -> dict[str, float]:
    """Medians; seconds until usable, milliseconds of a change, megabytes of a visitor's kernel."""
    store = f"sqlite:///{ROOT / 'mlflow.db'}"
    password = secrets.token_urlsafe(18)
    with contextlib.ExitStack() as stack:
        folder = make_project(Path(stack.enter_context(tempfile.TemporaryDirectory())), password)
        command, environment = [tool("mlops"), "serve", "--port", "PORT"], {"MLOPS_TRACKING_URI": store}
        server = Server("/readyz", command, folder, environment)
        stack.callback(server.stop)
        url = f"http://127.0.0.1:{server.port}"
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        stack.callback(browser.close)
        with _page(folder / "cold", url, "c.VoilaConfiguration.preheat_kernel = False") as (_, address):
            cold = _visits(browser, address, keep_cache=False, pause=1.0)
        with _page(folder / "warm", url) as (pid, address):
            warm = _visits(browser, address, keep_cache=True, pause=3.0)
            page = browser.new_page()
            empty = [_empty(page, address) for _ in range(ROUNDS)]
            time.sleep(2)
            _usable(page, address)
            floor, label = _requests_of(server, password)
            changes = sorted(_changes(page, password, label))
            kernels = [child for child in psutil.Process(pid).children() if "ipykernel_launcher" in child.cmdline()]
            memory = max(kernel.memory_info().rss for kernel in kernels) / 1e6
    return {
        "an error page of the same server, s (floor)": statistics.median(empty),
        "usable, warm kernel and cache, s": statistics.median(warm),
        "usable, cold kernel and empty cache, s": statistics.median(cold),
        "the two requests behind a change, ms (floor)": statistics.median(floor),
        "change to drawn chart, median ms": statistics.median(changes),
        "change to drawn chart, p95 ms": changes[len(changes) * 95 // 100],
        "a visitor's kernel, MB": memory,
    }


if __name__ == "__main__":
    for what, value in bench_page().items():
        print(f"{what:<52} {value:>10.3f}")

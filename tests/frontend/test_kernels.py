"""Kernels behind a real Voilà: what they know, how many there are, and when they end."""

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from browser import CHROMIUM, chromium

from mlops_core.frontend.kernels import clean_environment
from mlops_core.frontend.launch import NOTEBOOK, serve_page
from mlops_core.processes import free_port

SHOWN = """
import html, os, sys
import ipywidgets
from mlops_core.frontend.page import open_page
known = html.escape(repr((sorted(os.environ), sorted(sys.modules))))
view = open_page()
view.children = [ipywidgets.HTML(f'<h1>Small</h1><p id="known">{known}</p>')]
view
"""


def make_root(folder: Path, code: str = SHOWN, config: str = "") -> Path:
    """A project that is nothing but a page."""
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Not for visitors"},
        {"cell_type": "code", "id": "b", "metadata": {"tags": ["stage"]}, "source": "raise SystemExit"},
        {"cell_type": "code", "id": "c", "metadata": {"tags": ["page"]}, "source": code},
    ]
    for cell in cells[1:]:
        cell |= {"outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    (folder / NOTEBOOK).parent.mkdir()
    (folder / NOTEBOOK).write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    (folder / "voila.py").write_text(f"c = get_config()\n{config}\n")
    return folder


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def kernels_of(process) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if is_kernel(child)]


def is_kernel(process) -> bool:
    try:
        return "ipykernel_launcher" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # gone, or about to be
        return False


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_of_the_environment_a_kernel_gets_what_it_needs():
    given = {"PATH": "/bin", "LC_ALL": "C", "MLOPS_API_URL": "http://api", "MLOPS_JWT_SECRET": "s", "QUERY_STRING": "q"}
    assert set(clean_environment(given)) == {"PATH", "LC_ALL", "MLOPS_API_URL"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Plain `voila` in a project, as the operator's shell would start it, secrets and all; its port."""
    root, port = make_root(tmp_path_factory.mktemp("plain")), free_port()
    (root / "notebooks" / "picture.png").write_bytes(b"png")
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("voila")), str(NOTEBOOK), "--no-browser", f"--port={port}"],
        cwd=root,
        env={**os.environ, "MLOPS_JWT_SECRET": "canary-of-the-secret", "HOME": str(root)},
    )

    def up():
        try:
            return get(port, "/voila/static/voila.js")[0] == 200
        except OSError:
            return False

    until(up)
    yield port
    process.terminate()
    process.wait(20)


def test_no_secret_of_the_server_is_in_a_kernel(plain):
    kernels = [item for item in psutil.Process().children(recursive=True) if is_kernel(item)]
    assert kernels
    for kernel in kernels:
        assert "MLOPS_JWT_SECRET" not in kernel.environ()
        assert "canary-of-the-secret" not in str(kernel.environ())


@pytest.mark.parametrize(
    "path",
    [
        "/voila/files/picture.png",
        "/voila/files/10_frontend.ipynb",
        "/voila/static/../../../../../etc/passwd",
        "/voila/templates/mlops/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/etc/passwd",
        "/voila/labextensions/../../../etc/passwd",
    ],
)
def test_no_file_beside_the_page_is_served(plain, path):
    status, text = get(plain, path)
    assert status in (302, 400, 403, 404, 500)  # Voilà itself answers a few with 500
    assert "root:" not in text


def test_only_the_page_is_shown(plain):
    _, text = get(plain, "/")
    assert "Not for visitors" not in text
    assert "open_page" not in text
    assert 'type="application/vnd.voila.cell-output+json"' in text


def test_no_address_of_another_host_stands_in_the_page_or_its_errors(plain):
    for path in ("/", "/voila/files/x"):
        _, text = get(plain, path)
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text.replace("https://cdnjs.cloudflare.com/ajax/libs/mathjax", "")


def test_answers_say_that_no_other_page_may_frame_them(plain):
    connection = http.client.HTTPConnection("127.0.0.1", plain, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    connection.close()


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


def open_tab(browser, port):
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    return page


@needs_browser
def test_a_cell_that_fails_shows_a_card_and_no_traceback(tmp_path):
    root, port = make_root(tmp_path, "raise RuntimeError('canary')"), free_port()
    with serve_page(root, "127.0.0.1", port, "http://127.0.0.1:9"), chromium() as browser:
        page = open_tab(browser, port)
        page.get_by_role("alert").filter(has_text="The page could not be built.").wait_for()
        text = page.content()
        assert "canary" not in text
        assert "Traceback" not in text
        assert page.get_by_role("button", name="Load again").first.is_visible()


@needs_browser
def test_one_visitor_too_many_is_told_and_gets_in_when_somebody_leaves(tmp_path):
    root, port = make_root(tmp_path, config="c.Kernels.max_kernels = 2"), free_port()
    with serve_page(root, "127.0.0.1", port, "http://127.0.0.1:9") as process, chromium() as browser:
        first, second = open_tab(browser, port), open_tab(browser, port)
        for page in (first, second):
            page.locator("#known").wait_for()
        third = open_tab(browser, port)
        third.get_by_text("The page is full at the moment.").wait_for()
        assert len(kernels_of(process)) == 2
        first.goto("about:blank")
        third.locator("#known").wait_for()  # it looks again by itself
        second.goto("about:blank")
        until(lambda: len(kernels_of(process)) == 2)  # one at work and a warm one in reserve


@needs_browser
def test_a_page_whose_kernel_is_gone_says_so(tmp_path):
    root, port = make_root(tmp_path), free_port()
    with serve_page(root, "127.0.0.1", port, "http://127.0.0.1:9") as process, chromium() as browser:
        page = open_tab(browser, port)
        page.locator("#known").wait_for()
        own = json.loads(page.locator("#jupyter-config-data").text_content())["kernelId"]
        next(kernel for kernel in kernels_of(process) if own in " ".join(kernel.cmdline())).kill()
        page.get_by_text("Your session has ended.").wait_for(timeout=60_000)
        page.get_by_role("button", name="Load again").click()
        page.locator("#known").wait_for()


@needs_browser
def test_a_page_knows_no_library_that_computes(tmp_path):
    root, port = make_root(tmp_path), free_port()
    with serve_page(root, "127.0.0.1", port, "http://127.0.0.1:9"), chromium() as browser:
        page = open_tab(browser, port)
        page.locator("#known").wait_for()
        environment, modules = eval(page.inner_text("#known"))
    assert not {"pandas", "numpy", "sklearn", "mlflow", "plotly", "onnxruntime"} & set(modules)
    assert {name for name in environment if name.startswith("MLOPS_")} == {"MLOPS_API_URL"}


def test_who_is_cut_off_without_a_word_leaves_no_kernel_behind(tmp_path):
    config = "c.Kernels.leave_seconds = 1\nc.VoilaConfiguration.preheat_kernel = False"
    root, port = make_root(tmp_path, config=config), free_port()
    with serve_page(root, "127.0.0.1", port, "http://127.0.0.1:9") as process:
        assert get(port, "/")[0] == 200  # a visitor without a browser
        assert len(kernels_of(process)) == 1
        until(lambda: not kernels_of(process))

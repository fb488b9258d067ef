"""`mlops app` as a process."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from test_kernels import get, make_root
from visits import make_project

from mlops_core.frontend import launch
from mlops_core.processes import free_port

MLOPS = str(Path(sys.executable).with_name("mlops"))


@pytest.fixture
def root(tmp_path):
    root = make_root(tmp_path)
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).touch()
    return root


def start(root, *arguments):
    return subprocess.Popen([MLOPS, "app", *arguments], cwd=root, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_the_page_is_and_ends_with_all_its_children(root, how):
    port = free_port()
    process = start(root, "--port", str(port), "--api-url", "http://127.0.0.1:9")
    assert "No API answers on http://127.0.0.1:9." in process.stderr.readline()
    assert process.stderr.readline() == f"Page on http://127.0.0.1:{port}\n"
    assert get(port, "/")[0] == 200
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    assert process.wait(20) == 0
    process.stderr.close()
    _, alive = psutil.wait_procs(family, 10)
    assert alive == []


def test_it_ends_with_whoever_started_it(root):
    port = free_port()
    process = start(root, "--port", str(port), "--api-url", "http://127.0.0.1:9")
    process.stderr.readline()
    process.stderr.readline()
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(20)
    process.stderr.close()
    _, alive = psutil.wait_procs(family, 20)
    assert alive == []


def test_a_taken_port_is_one_line(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(root, "--port", str(port))
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said.startswith(f"Cannot listen on 127.0.0.1:{port}")
    assert said.count("\n") == 1


def test_where_no_api_runs_one_is_started_and_ended(tmp_path, bundles, monkeypatch):
    root = make_project(tmp_path / "project", bundles["binary"])
    monkeypatch.setenv("MLOPS_MODEL", "small@champion")
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:9")
    port = free_port()
    with launch._api(root, f"http://127.0.0.1:{port}", given=False):
        assert get(port, "/livez")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        get(port, "/livez")


def test_an_api_that_runs_already_is_left_alone(served, capsys):
    url = f"http://127.0.0.1:{served.port}"
    with launch._api(served.root, url, given=False):
        pass
    assert capsys.readouterr().err == f"API on {url}, which is running already\n"
    assert served.get("/livez").status == 200


def test_an_api_that_cannot_start_is_one_error(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").touch()
    monkeypatch.setenv("MLOPS_ENV", "production")
    with pytest.raises(launch.StartError, match="The API ended with"):  # noqa: SIM117
        with launch._api(tmp_path, f"http://127.0.0.1:{free_port()}", given=False):
            pass

"""Plain tools keep working on their own: papermill, pytest --nbmake, a Jupyter server, DVC."""

import json
import re
import sys
import time
import urllib.error
import urllib.request

import pytest
from project import STAGES, Done, Project, end_group, wait_until

from mlops_core.processes import free_port


@pytest.fixture(scope="module")
def nbmake(used: Project) -> Done:
    """Every notebook by a tool that knows nothing of this project, in its own folder, as JupyterLab would."""
    return used.run(
        sys.executable, "-m", "pytest", "--nbmake", "-q", "-rA", "-p", "no:cacheprovider", "-c", "/dev/null",
        *[f"notebooks/{name}.ipynb" for name in STAGES.values()],
    )  # fmt: skip


def test_a_notebook_passes_under_nbmake(nbmake: Done, stage: str) -> None:
    assert re.search(rf"PASSED \S*{STAGES[stage]}\.ipynb", nbmake.out), nbmake


def test_stock_papermill_runs_a_notebook_from_the_root(used: Project) -> None:
    before = len(used.finished_trials())
    done = used.run("papermill", "notebooks/06_tune.ipynb", "out.ipynb", "-p", "trials", str(before + 1))
    assert done.code == 0, done
    assert len(used.finished_trials()) > before
    cells = json.loads(used.path("out.ipynb").read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code" and cell["source"])


def test_papermill_prints_the_parameters_of_a_notebook(used: Project, stage: str) -> None:
    done = used.run("papermill", "--help-notebook", f"notebooks/{STAGES[stage]}.ipynb")
    assert done.code == 0, done
    assert "Parameters inferred" in done.out
    assert re.search(r"^\s+\w+: (str|int|float|bool) ", done.out, flags=re.MULTILINE), done


def test_a_notebook_takes_a_parameter_from_papermill(unrun: Project) -> None:
    arguments = ("notebooks/01_ingest.ipynb", "out.ipynb", "-p", "max_quarantined", "0.0000001")
    done = unrun.run("papermill", *arguments, "--no-progress-bar")
    assert done.code == 1, done
    assert "ingest.max_quarantined" in done.err


def test_saving_a_notebook_with_outputs_does_not_make_its_stage_stale(untouched: Project) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    source = untouched.path("notebooks/04_track.ipynb")
    before = source.read_bytes()
    server = untouched.start(
        "jupyter", "server", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True",
        "--FileContentsManager.pre_save_hook=mlops_core.pipeline.notebooks.strip_on_save",
    )  # fmt: skip

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/status", timeout=2) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, server.communicate()[1][-2000:]
            return False

    try:
        wait_until(answers, 60, "the server answers")
        executed = json.loads(untouched.executed("track").read_text())
        assert any(cell.get("outputs") for cell in executed["cells"])
        body = json.dumps({"type": "notebook", "format": "json", "content": executed}).encode()
        request = urllib.request.Request(
            f"{address}/contents/notebooks/04_track.ipynb",
            data=body,
            method="PUT",
            headers={"Content-Type": "application/json"},
        )
        time.sleep(0.05)
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.status == 200
    finally:
        end_group(server, 15)
        server.communicate(timeout=30)
    assert source.read_bytes() == before
    done = untouched.dvc("status")
    assert "up to date" in done.out + done.err, done

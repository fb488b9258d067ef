"""The gate of a release asks a real server: who answers as it should passes, all else is refused with a reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from server import PASSWORD, Running, make_root, running

GATE = Path(__file__).parents[2] / "deploy" / "release" / "gate.py"


def gate(port: int, name: str = "ada", secret: str = PASSWORD, seconds: float = 5) -> subprocess.CompletedProcess[str]:
    settings = {"GATE_SECONDS": str(seconds), "GATE_QUESTIONS": "3"}
    return subprocess.run(
        [sys.executable, "-I", str(GATE), f"http://127.0.0.1:{port}/"],
        env={**os.environ, **settings, "GATE_CLIENT_ID": name, "GATE_CLIENT_SECRET": secret},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_good_version_passes(served: Running) -> None:
    done = gate(served.port)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"passed: http://127.0.0.1:{served.port} serves small 1, 3 of 3 answers are right\n"


@pytest.mark.parametrize(
    ("name", "secret", "reason"),
    [
        ("ada", "wrong horse walks home", "no token for ada: 401"),
        ("", "", "name the account that asks"),
    ],
)
def test_who_cannot_log_in_learns_nothing_and_refuses(served: Running, name: str, secret: str, reason: str) -> None:
    done = gate(served.port, name, secret)
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_without_a_model_is_refused(tmp_path: Path) -> None:
    with running(make_root(tmp_path / "empty")) as server:
        done = gate(server.port, seconds=1)
    assert done.returncode == 1
    assert "refused: not ready after 1 s: 503 No verified model is loaded yet." in done.stderr


def test_nobody_there_is_refused(tmp_path: Path) -> None:
    done = gate(9, seconds=0)
    assert done.returncode == 1
    assert "refused: not ready after 0 s: 0" in done.stderr

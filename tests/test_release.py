"""Releases to a cloud, acted out with stand-ins for its programs: what is shifted, and what goes back after a bad gate.

No cloud is at hand here. The stand-ins write down how they are called and answer what the scripts ask them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICE = (
    '{"status": {"traffic": [{"revisionName": "mlops-api-7", "percent": 100},'
    ' {"revisionName": "mlops-api-8", "tag": "candidate", "url": "https://candidate.example"}]}}'
)
# Prints what it was called with; `$FAIL` names a call that fails, $FAIL_AFTER after how many times that it went well.
STAND_IN = """#!/bin/sh
line="$(basename "$0") $*"
echo "$line" >> "$CALLS"
case "$line" in
  *"--format json(status.traffic)"*) printf '%s' "$SERVICE" ;;
  "git rev-parse HEAD") echo c0ffee ;;
  *"imagetools inspect"*) echo sha256:abc ;;
  *"describe-stacks"*) echo v1 ;;
  *"get-login-password"*) echo secret ;;
  *"--password-stdin"*) cat >/dev/null ;;
esac
case "$line" in *"$FAIL"*)
  seen=$(grep -cF -- "$FAIL" "$CALLS")
  [ "$seen" -le "$FAIL_AFTER" ] || exit 1 ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-ins were asked, a line each; the scripts run in a tree of their own."""
    tools = tmp_path / "bin"
    tools.mkdir()
    shutil.copytree(ROOT / "deploy" / "release", tmp_path / "deploy" / "release")
    (tmp_path / "deploy" / "kubernetes" / "overlays" / "gcp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    # Python is real but for the gate, which would need a server.
    real = f'case "$1" in deploy/release/gate.py) ;; *) exec {sys.executable} "$@" ;; esac\nline='
    for name in ("gcloud", "aws", "kubectl", "kustomize", "docker", "cosign", "git", "python3"):
        (tools / name).write_text(STAND_IN.replace("line=", real, 1) if name == "python3" else STAND_IN)
        (tools / name).chmod(0o755)
    settings = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SERVICE": SERVICE,
        "FAIL": "nothing fails",
        "FAIL_AFTER": "0",
        "VERSION": "v2",
        "REGISTRY": "ghcr.example/us",
        "CLOUD_REGISTRY": "registry.example/us",
        "REGION": "north",
        "API_URL": "https://api.example",
        "OVERLAY": "gcp",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "calls"


def run(*command: str, cwd: Path | None = None) -> int:
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False, timeout=60).returncode


def release(to: str) -> int:
    return run(f"deploy/release/{to}.sh")


def shifts(calls: Path) -> list[str]:
    """Traffic on Cloud Run, in order."""
    lines = calls.read_text(encoding="utf-8").splitlines()
    return [line.rpartition(" ")[2] for line in lines if "update-traffic" in line]


def test_cloud_run_gets_a_version_step_by_step(calls: Path) -> None:
    assert release("gcp") == 0
    assert shifts(calls) == ["candidate=10", "candidate=50", "candidate=100"]
    lines = calls.read_text(encoding="utf-8").splitlines()
    gates = [line for line in lines if "gate.py" in line]
    assert gates == [
        f"python3 deploy/release/gate.py https://{at}.example" for at in ("candidate", "api", "api", "api")
    ]
    (deployed,) = [line for line in lines if "deploy mlops-api" in line]
    assert "--no-traffic" in deployed
    assert deployed.index("mlops-api:v2") > 0


@pytest.mark.parametrize(("passed", "moved"), [(0, []), (1, ["candidate=10"]), (2, ["candidate=10", "candidate=50"])])
def test_cloud_run_goes_back_at_the_first_gate_that_fails(
    calls: Path, monkeypatch: pytest.MonkeyPatch, passed: int, moved: list[str]
) -> None:
    monkeypatch.setenv("FAIL", "gate.py")
    monkeypatch.setenv("FAIL_AFTER", str(passed))
    assert release("gcp") != 0
    assert shifts(calls) == [*moved, "mlops-api-7=100"]


def test_a_migration_that_fails_starts_no_release(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "jobs execute mlops-migrate")
    assert release("gcp") != 0
    assert "deploy mlops-api" not in calls.read_text(encoding="utf-8")


@pytest.mark.parametrize("fails", ["rollout status deployment/api", "gate.py"])
def test_kubernetes_undoes_a_rollout_that_hangs_or_answers_wrongly(
    calls: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    assert release("kubernetes") == 0
    assert "undo" not in calls.read_text(encoding="utf-8")
    monkeypatch.setenv("FAIL", fails)
    monkeypatch.setenv("FAIL_AFTER", str(calls.read_text(encoding="utf-8").count(fails)))
    assert release("kubernetes") != 0
    assert "kubectl -n mlops rollout undo deployment/api" in calls.read_text(encoding="utf-8")


def test_fargate_goes_back_to_the_version_before(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert release("aws") == 0
    updates = [line for line in calls.read_text(encoding="utf-8").splitlines() if "cloudformation deploy" in line]
    assert ["Version=v2" in line for line in updates] == [True]
    monkeypatch.setenv("FAIL", "gate.py")
    monkeypatch.setenv("FAIL_AFTER", "1")
    assert release("aws") != 0
    updates = [line for line in calls.read_text(encoding="utf-8").splitlines() if "cloudformation deploy" in line]
    assert [line.split("Version=")[1].split()[0] for line in updates] == ["v2", "v2", "v1"]


def test_images_keep_their_digest_on_every_way(calls: Path) -> None:
    for step in ("push", "pull", "sign", "publish"):
        assert run("deploy/release/images.sh", step) == 0
    lines = calls.read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if "imagetools create" in line]
    assert len(named) == 4
    assert all("--prefer-index=false" in line and line.endswith("@sha256:abc") for line in named)
    signed = [line for line in lines if line.startswith("cosign")]
    assert len(signed) == 8
    assert all(line.endswith("@sha256:abc") for line in signed)


@pytest.mark.parametrize("to", ["", "nowhere", "gcp; touch x", "../../x"])
def test_another_place_is_refused(calls: Path, to: str) -> None:
    assert run("make", "-s", "deploy", f"TO={to}", cwd=ROOT) == 2
    assert not calls.exists()

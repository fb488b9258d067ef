"""What is in the images and how the stack stands: read from the files, and from a Docker engine where one answers.

Sizes of packages are those of this environment; whether an image holds a package says its lock.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from typing import Any

import yaml

from mlops_core.errors import MLOpsError

LOCKS = {"api": "serve", "app": "app", "mlflow": "mlflow", "pipeline": "pipeline"}
MEGABYTE = 1_000_000
LOOK_SECONDS, BUILD_SECONDS = 30, 1500
PACKAGE = re.compile(r"^([a-z0-9][a-z0-9._-]*)==", re.MULTILINE)
STAGE = re.compile(r"^FROM (\S+)(?: AS (\S+))?$", re.MULTILINE)
TAKES = re.compile(r"--from=([a-z-]+)")
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--network=none", "--tmpfs=/tmp")


class EngineError(MLOpsError):
    """The engine answered, and refused."""

    def __init__(self, command: str, said: str) -> None:
        self.command, self.said = command, said
        super().__init__(f"{command} failed: {said.strip().splitlines()[-1] if said.strip() else 'it said nothing'}")


@dataclass(frozen=True)
class Layer:
    """What one instruction of the Dockerfile added."""

    megabytes: float
    made_by: str


def find_engine() -> str:
    """The version of the Docker engine that answers here, or nothing."""
    if not shutil.which("docker"):
        return ""
    try:
        return _docker("version", "--format", "{{.Server.Version}}").strip()
    except (EngineError, subprocess.TimeoutExpired):
        return ""


def _docker(*arguments: str, root: Path | None = None, seconds: float = LOOK_SECONDS) -> str:
    """Raises EngineError."""
    done = subprocess.run(
        ["docker", *arguments], cwd=root, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        raise EngineError(f"docker {arguments[0]}", done.stderr)
    return done.stdout


def read_stages(dockerfile: str) -> dict[str, str]:
    """Stages of a Dockerfile by name: what each starts from and takes along."""
    found = {}
    marks = list(STAGE.finditer(dockerfile))
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        body = dockerfile[mark.end() : after.start() if after else None]
        takes = dict.fromkeys(TAKES.findall(body))
        found[mark[2] or mark[1]] = f"from {mark[1]}" + (f", takes from {', '.join(takes)}" if takes else "")
    return found


def locked_packages(root: Path, target: str) -> list[str]:
    """Names of what an image may hold, on whichever platform."""
    lock = root / "requirements" / f"{LOCKS[target]}.txt"
    return sorted(set(PACKAGE.findall(lock.read_text(encoding="utf-8"))))


def installed_megabytes(name: str) -> float | None:
    """What a package takes up in this environment; None where it is not installed."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return None
    return sum(_size_of(file) for file in files) / MEGABYTE


def _size_of(file: PackagePath) -> int:
    """In bytes; as its package noted it, or as it is."""
    path = Path(str(file.locate()))
    return file.size if file.size is not None else path.stat().st_size if path.is_file() else 0


def weigh_images(root: Path) -> dict[str, dict[str, float]]:
    """By target: megabytes by package, as far as they are installed here."""
    weights: dict[str, float | None] = {}
    found: dict[str, dict[str, float]] = {}
    for target in LOCKS:
        names = locked_packages(root, target)
        weights.update({name: installed_megabytes(name) for name in names if name not in weights})
        found[target] = {name: weight for name in names if (weight := weights[name]) is not None}
    return found


def read_services(compose: str) -> dict[str, dict[str, str]]:
    """By service of a compose file: what it may do and whom it may reach."""
    tree = yaml.safe_load(compose)
    return {name: _describe_service(service) for name, service in tree["services"].items()}


def _describe_service(service: Mapping[str, Any]) -> dict[str, str]:
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    return {
        "networks": ", ".join(service.get("networks", [])) or service.get("network_mode", ""),
        "published": "yes" if service.get("ports") else "",
        "root file system": "read-only" if service.get("read_only") else "writable",
        "capabilities": ", ".join(service.get("cap_add", []))
        or ("none" if "ALL" in service.get("cap_drop", []) else "all"),
        "memory": str(limits.get("memory", "")),
        "profile": ", ".join(service.get("profiles", [])),
    }


def build_image(root: Path, target: str, tag: str) -> None:
    """Builds a target of the Dockerfile; what has not changed is taken from the cache. Raises EngineError."""
    _docker("build", "-q", "--target", target, "-t", f"mlops-{target}:{tag}", ".", root=root, seconds=BUILD_SECONDS)


def read_layers(image: str) -> list[Layer]:
    """Layers of an image that hold something, the newest first. Raises EngineError."""
    lines = _docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image)
    parts = [line.split("\t", 1) for line in lines.splitlines()]
    shown = [(float(size) / MEGABYTE, re.sub(r"\s+", " ", made_by)) for size, made_by in parts]
    return [Layer(size, re.sub(r" # buildkit$", "", made_by)) for size, made_by in shown if size > 0]


def try_hardened(image: str, script: str) -> str:
    """What a shell prints in a container that may do nothing: no network, no rights, nothing to write to but /tmp."""
    return _docker("run", "--rm", *HARDENED, "--entrypoint", "sh", image, "-c", script, seconds=120)


def stack_health(root: Path) -> dict[str, str]:
    """State of every service of the compose stack that runs now; empty where it is down. Raises EngineError."""
    names = _docker("ps", "-q", "--filter", "label=com.docker.compose.project=mlops").split()
    if not names:
        return {}
    service = '{{index .Config.Labels "com.docker.compose.service"}}'
    state = "{{.State.Status}}{{if .State.Health}}, {{.State.Health.Status}}{{end}}"
    lines = _docker("inspect", "--format", f'["{service}", "{state}"]', *names, root=root).splitlines()
    return dict(sorted(json.loads(line) for line in lines))

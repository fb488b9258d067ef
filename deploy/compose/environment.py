"""Keeps the passwords of the compose stack in .env: makes the missing ones, refuses the weak ones."""

import re
import secrets
import sys
from pathlib import Path

NAMES = (
    "POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "OPTUNA_DB_PASSWORD", "API_DB_PASSWORD", "MLOPS_JWT_SECRET",
    "MLOPS_ADMIN_PASSWORD", "MONITOR_PASSWORD", "GRAFANA_ADMIN_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY",
)  # fmt: skip
MADE_BYTES = 36
SHORTEST = 32
FEWEST = 10  # different characters
MONITOR_FILE = Path("deploy", "compose", "monitor", "password")
URL_SAFE = re.compile(r"[A-Za-z0-9_-]+")  # they become part of addresses


def read(text: str) -> dict[str, str]:
    """Name and value of every assignment."""
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


def find_weakness(value: str) -> str:
    """What is wrong with a secret, or nothing."""
    if len(value) < SHORTEST:
        return f"is shorter than {SHORTEST} characters"
    if len(set(value)) < FEWEST:
        return f"has fewer than {FEWEST} different characters"
    if not URL_SAFE.fullmatch(value):
        return "has characters other than letters, digits, - and _"
    return ""


def _hand_to_prometheus(file: Path, password: str) -> None:
    """Prometheus takes a password from a file only, and reads it as another account; the folder shuts others out."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text(password, encoding="ascii", errors="replace")
    file.chmod(0o644)


def complete(path: Path) -> list[str]:
    """Adds what is missing to the file, for its owner's eyes only, and returns what is weak in it."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = read(text)
    missing = [name for name in NAMES if name not in known]
    if missing:
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" if text and not text.endswith("\n") else "")
            file.writelines(f"{name}={secrets.token_urlsafe(MADE_BYTES)}\n" for name in missing)
    path.chmod(0o600)
    _hand_to_prometheus(path.parent / MONITOR_FILE, read(path.read_text(encoding="utf-8"))["MONITOR_PASSWORD"])
    weak = {name: find_weakness(known[name]) for name in NAMES if name in known}
    return [
        f"{path.name}: {name} {problem}; delete its line and run this again"
        for name, problem in weak.items()
        if problem
    ]


if __name__ == "__main__":
    problems = complete(Path(sys.argv[1]))
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    sys.exit(2 if problems else 0)

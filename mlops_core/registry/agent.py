"""The registry for a process that must stay small and never wait: JSON lines in, JSON lines out, until the input ends.

MLflow costs 100 MB and a second of imports, and may hang on a network; whoever asks can end this process instead.
`{"do": "champion", "with": {"name": …, "alias": …}}` gets `{"done": 3}` or `{"failed": "ClassName", "detail": "…"}`.
"""

import json
import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # MLflow imports it wherever it is: a third of a second for nothing that is asked here. The images have none.
    sys.modules["pandas"] = None  # type: ignore[assignment]

from mlops_core.database import sqlite_file
from mlops_core.registry import champions
from mlops_core.registry.store import Store, StoreError, open_store
from mlops_core.settings import load_settings


def _champion(store: Store, name: str, alias: str) -> int | None:
    found = champions.get_version(store, name, alias)
    return int(found.version) if found else None


def _fetch(store: Store, name: str, version: int, target: str) -> dict[str, Any]:
    return champions.fetch_bundle(store, name, version, Path(target))


def _versions(store: Store, name: str) -> list[dict[str, Any]]:
    return [champions.describe_version(store, version) for version in champions.list_versions(store, name)]


OPERATIONS: dict[str, Callable[..., Any]] = {
    "champion": _champion,
    "fetch": _fetch,
    "versions": _versions,
    "roll_back": champions.roll_back,
}


def answer(line: str, store: Callable[[], Store]) -> dict[str, Any]:
    """The reply to one line; whatever goes wrong is part of it."""
    try:
        request = json.loads(line)
        return {"done": OPERATIONS[request["do"]](store(), **request["with"])}
    except Exception as error:
        return {"failed": type(error).__name__, "detail": str(error)}


def _end_with_input() -> None:
    """Ends this process when whoever asks is gone, also in the middle of a question that takes its time."""
    waiting = select.poll()
    waiting.register(sys.stdin.fileno(), 0)
    waiting.poll()
    os._exit(0)


def _check_file(uri: str) -> None:
    """Raises StoreError for a SQLite file that is away: who only reads must not put an empty store in its place."""
    file = sqlite_file(uri)
    if file and not file.is_file():
        raise StoreError(uri, "there is no such file", "A run makes it: mlops run")


def main(root: Path) -> None:
    """Serves standard input. Anything else that prints must not disturb the replies."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    replies, sys.stdout = sys.stdout, sys.stderr
    opened: list[Store] = []

    def store() -> Store:
        settings = load_settings()
        _check_file(settings.tracking(root))
        if not opened:
            opened.append(open_store(root, settings))
        return opened[0]

    for line in sys.stdin:
        print(json.dumps(answer(line, store)), file=replies, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

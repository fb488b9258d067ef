"""`mlops app`: the page as a process, and the API beside it where none runs; both end together."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from mlops_core.errors import MLOpsError
from mlops_core.frontend.client import API_URL
from mlops_core.frontend.kernels import clean_environment
from mlops_core.processes import end_with_parent, open_socket

NOTEBOOK = Path("notebooks", "10_frontend.ipynb")
VARIABLE = "MLOPS_API_URL"
LOOK_SECONDS, POLL_SECONDS = 2.0, 0.05
START_SECONDS, STOP_SECONDS = 60.0, 30.0


class StartError(MLOpsError):
    """A process ended, or did not answer in time; it has said why on its own."""

    def __init__(self, what: str, code: int | None) -> None:
        self.what, self.code = what, code
        how = "is not up" if code is None else f"ended with {code}"
        super().__init__(f"The {what} {how}. See what it said above.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=LOOK_SECONDS) as answer:  # noqa: S310  an address of the operator's
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return True  # somebody is there
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _child(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to end when the block does."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=end_with_parent,
        start_new_session=True,  # a Ctrl-C reaches us, and we end it in order
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), LOOK_SECONDS):
        return True
    return False


def _wait(process: subprocess.Popen[bytes], is_up: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + START_SECONDS
    while not is_up():
        if process.poll() is not None or time.monotonic() > end:
            raise StartError(what, process.returncode)
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def serve_page(root: Path, host: str, port: int, api_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Voilà on the notebook, listening, with nothing of this environment that a visitor's kernel should not see."""
    voila = str(Path(sys.executable).with_name("voila"))
    command = [voila, str(NOTEBOOK), "--no-browser", f"--Voila.ip={host}", f"--port={port}"]
    with _child(command, root, {**clean_environment(os.environ), VARIABLE: api_url}) as process:
        _wait(process, lambda: _listens(host, port), "page")
        yield process


@contextlib.contextmanager
def _api(root: Path, url: str, given: bool) -> Iterator[None]:
    """The API at its address: there already, started here, or hoped for."""
    if _answers(f"{url}/livez"):
        _say(f"API on {url}, which is running already")
        yield
    elif given:
        _say(f"No API answers on {url}. The page starts all the same, and goes on by itself once one does.")
        yield
    else:
        address = urlsplit(url)
        command = [str(Path(sys.executable).with_name("mlops")), "serve", "--port", str(address.port)]
        with _child(command, root, dict(os.environ)) as process:
            _wait(process, lambda: _answers(f"{url}/livez"), "API")
            yield


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def run_app(root: Path, host: str, port: int, api_url: str = "") -> None:
    """Serves the page until a signal ends it. Raises AddressInUseError, StartError."""
    given = api_url or os.environ.get(VARIABLE, "")
    url = (given or API_URL).rstrip("/")
    open_socket(host, port).close()
    for ending in (signal.SIGTERM, signal.SIGINT):  # a shell that starts it behind an `&` has SIGINT ignored
        signal.signal(ending, _stop)
    with (
        contextlib.suppress(KeyboardInterrupt),
        _api(root, url, bool(given)),
        serve_page(root, host, port, url) as page,
    ):
        _say(f"Page on http://{host}:{port}")
        page.wait()
        raise StartError("page", page.returncode)

"""Processes in a tenth of a second: forked from one that has done the imports.

A stage takes three seconds to import papermill, to start a kernel and to import pandas, scikit-learn and MLflow there,
and a series has ten. `mlops run` starts one process that does it once, and who needs another asks for a fork of that.
Where there is none to be had (`dvc repro`, `mlops stage`, anywhere but on Linux), everything starts as it always does.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

from mlops_core.processes import end_with_parent

VARIABLE = "MLOPS_FORKSERVER"
BOOT = "from mlops_core.forkserver import main; main()"
LARGEST = 1 << 17  # bytes of a request; a socket takes hardly more in one piece

# What runs a notebook, and what the notebooks import. Of others alone: what is edited in this checkout during a run is
# what the next stage imports. Not onnxruntime, which starts a thread that no fork has, and waits for it in the end.
TOOLS, LIBRARIES = "tools", "libraries"
PRELOADED = {
    TOOLS: (
        "mlops_core.pipeline",  # keeps jsonschema from what it need not import
        "papermill.execute",
        "ipykernel.kernelapp",
        "ipykernel.debugger",
        "nbconvert.exporters",
        "bleach",
        "bs4",
        "pygments.lexers.python",
    ),
    LIBRARIES: (
        "pyarrow.parquet",
        "pandas",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "skrub",
        "matplotlib.figure",
        "matplotlib_inline.backend_inline",
        "mlflow.sklearn",
        "mlflow.pyfunc",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.store.model_registry.sqlalchemy_store",
        "optuna",
        "onnx",
        "skl2onnx",
        "skops.io",
    ),
}

_forked = False


class Forked:
    """A process that is another one's child, with what jupyter_client needs of a `subprocess.Popen`.

    It holds the other end of `channel`, so each learns from a closed end that the other is gone.
    """

    stdin = stdout = stderr = None

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self.channel, self.pid = channel, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int | None:
        return self._look(timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self.channel], [], [], timeout)[0]:
            said = self.channel.recv(LARGEST)
            self.returncode = int(said) if said else -signal.SIGKILL  # whichever it was: only a parent could know
            self.channel.close()
        return self.returncode


def ask_for_fork(
    call: str,
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: Path | None = None,
    output: IO[bytes] | None = None,
    level: str = LIBRARIES,
) -> Forked | None:
    """A process that calls a function, named as `module:function`; None where nobody forks any.

    It has no input, its `output` goes where that of this process goes if none is given, and it ends with this process.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    facts = {"call": call, "arguments": list(arguments), "env": dict(env), "cwd": str(cwd or Path.cwd())}
    request = json.dumps(facts).encode()
    if len(request) > LARGEST:
        return None
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(str(Path(folder) / level))
        streams = [output.fileno()] * 2 if output else [1, 2]
        socket.send_fds(channel, [request], streams)
        return Forked(channel, int(channel.recv(LARGEST)))  # nothing, if it ends before
    except (OSError, ValueError):
        channel.close()
        return None


def stand_in(call: str, arguments: Sequence[str]) -> None:
    """Has a fork do what this process was started for, and ends as that ends; returns where nobody forks any."""
    process = None if _forked else ask_for_fork(call, arguments, os.environ, level=TOOLS)
    if process is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait() or 0
    if code < 0:
        print("The process that did it was killed: was there enough memory?", file=sys.stderr, flush=True)
    os._exit(code if code >= 0 else 128 - code)


@contextlib.contextmanager
def forking(env: Mapping[str, str], folder: Path) -> Iterator[dict[str, str]]:
    """Adds to an environment where to ask for forks, as long as the block lasts; `folder` is for this alone."""
    with contextlib.ExitStack() as stack:
        found = dict(env)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a disk that is full, has no sockets, or too long a name
                _start(env, folder, stack)
                found[VARIABLE] = str(folder)
        yield found


def _start(env: Mapping[str, str], folder: Path, stack: contextlib.ExitStack) -> None:
    """A process that listens at a socket for each level. The folder of a run that was killed is used again."""
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)  # who may ask may do whatever its owner may
    with contextlib.ExitStack() as ours:
        # They listen from the start: whoever is early waits until the imports are done.
        listeners = [ours.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in PRELOADED]
        for level, listener in zip(PRELOADED, listeners, strict=True):
            listener.bind(str(folder / level))
            listener.listen()
        descriptors = [listener.fileno() for listener in listeners]
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, *map(str, descriptors)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            preexec_fn=end_with_parent,
            start_new_session=True,  # a Ctrl-C is for the stage, which tells its fork
        )
    stack.callback(process.wait)
    stack.callback(os.killpg, process.pid, signal.SIGKILL)


def main() -> None:
    """The process that is forked; it ends with whoever started it."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as a kernel does
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    tools, libraries = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    for name in PRELOADED[TOOLS]:
        _import(name)
    if os.fork() == 0:
        end_with_parent()
        libraries.close()  # open here, it would let people wait for whom nobody forks any more
        _answer(tools)
    tools.close()
    for name in PRELOADED[LIBRARIES]:
        _import(name)
        _answer(libraries, 0)  # the first ones do the other imports themselves, which is sooner than to wait
    _answer(libraries)


def _import(name: str) -> None:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)


def _answer(listener: socket.socket, seconds: float | None = None) -> None:
    """Forks for everybody who asks, until nobody has asked for so many seconds."""
    gc.freeze()  # no fork need go through what was imported
    while select.select([listener], [], [], seconds)[0]:
        channel, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _become(channel)
        channel.close()


def _become(channel: socket.socket) -> NoReturn:
    """What the fork does, until it ends."""
    global _forked
    _forked, code = True, 1
    try:
        call = _take_over(channel)
        channel.send(str(os.getpid()).encode())
    except BaseException:
        os._exit(code)  # who asks learns from the closed end that there is no fork to be had
    threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
    try:
        pkgutil.resolve_name(call)()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            channel.send(str(code).encode())
        os._exit(code)  # Python would clean up after its parent's imports


def _take_over(channel: socket.socket) -> str:
    """Makes this process look as if whoever asks had started it; what it is to call."""
    request, streams, _, _ = socket.recv_fds(channel, LARGEST, 2)
    asked = json.loads(request)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()  # signals for a kernel are sent to its group
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    for target, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *streams]):
        os.dup2(stream, target)
        os.close(stream)
    sys.argv = asked["arguments"]
    import numpy as np

    np.random.seed()  # noqa: NPY002  each its own, like any process
    return str(asked["call"])


def _end_with(channel: socket.socket) -> None:
    """Ends this process when whoever asked for it is gone."""
    with contextlib.suppress(OSError):
        channel.recv(1)
    os._exit(1)
